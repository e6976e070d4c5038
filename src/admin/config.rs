//! The config: what runs, what the file says, and changes of it.

use super::Admin;
use crate::service::ConfigText;
use crate::status::shape::ConfigState;

/// What runs and what the file says. `None` where no file stands behind the node.
pub async fn state(admin: &Admin) -> Option<ConfigState> {
    let running = admin.desk.as_ref()?.running().await?;
    let hash = running.text.hash();
    let file = running.file.clone();
    let file_hash = super::run(move || {
        let text = std::fs::read_to_string(&file).ok()?;
        Some(ConfigText { text: text.into(), ..running.text.clone() }.hash())
    });
    let file_hash = file_hash.await.flatten();
    Some(ConfigState {
        file: running.file.display().to_string(),
        same: file_hash.as_ref() == Some(&hash),
        hash,
        file_hash,
        changes: 0,
    })
}
