//! What the running plan was made of, and how texts become that.
//!
//! The text is kept beside the plan: the difference between file and node is told from it, and a change that could not be
//! written is undone with it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel_config::{Compiled, Files, Format, Recipe, compile_with, secrets};
use evenkeel_plan::Resolved;

use super::desk::{ConfigText, Judged};
use crate::node::Node;
use crate::side;

pub struct Current {
    /// The file that a reload reads.
    pub file: PathBuf,
    pub text: ConfigText,
    pub recipe: Arc<Recipe>,
    /// Every answer there is. What the side thread tells may be older than the plan, and lacks then what the plan's new names
    /// stand for.
    pub known: Arc<Resolved>,
}

impl Current {
    /// The same config with other answers to its names. The files it names are not read again: what happens to them meanwhile
    /// is the next reload's.
    pub fn rename(&mut self, node: &mut Node, heard: &Resolved) {
        let mut known = (*self.known).clone();
        known.extend(heard.clone());
        known.retain(|name, _| node.plan().names.contains(name));
        self.known = Arc::new(known);
        if let Err(refused) = node.reload(Arc::new(self.recipe.plan(&self.known)), Arc::clone(&self.known)) {
            node.boss().refused(1, refused.to_string().into(), "a name of backends".into());
        }
    }

    /// What a text would be, with the answers to names that are known now.
    pub fn judge(&self, text: ConfigText, files: &mut dyn Files) -> Judged {
        let (mut judged, recipe) = judge(text, files);
        judged.plan = recipe.map(|recipe| Arc::new(recipe.plan(&self.known)));
        judged
    }
}

/// The file's text, or the line to tell why not.
pub fn read(file: &Path) -> Result<ConfigText, String> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read \"{name}\": {error}"))?;
    Ok(ConfigText { format: Format::of_path(&name), name: name.into(), text: text.into() })
}

/// All problems of a text, and what plans are made of when none is an error.
pub fn judge(text: ConfigText, files: &mut dyn Files) -> (Judged, Option<Arc<Recipe>>) {
    let Compiled { plan, recipe, mut problems } = compile_with(&text.source(), files);
    let secrets = secrets(&text.source());
    // They are written to the log, and told to whoever asks.
    for problem in &mut problems {
        problem.text = secrets.scrub(&problem.text);
        problem.help = problem.help.take().map(|help| secrets.scrub(&help));
    }
    (Judged { text, problems, plan: plan.map(Arc::new) }, recipe)
}

/// Gives the file another text. Whoever reads it meanwhile finds the old one or the new one whole; the old one stays beside
/// it under the name with `.before` at its end.
pub fn write(file: &Path, text: &str) -> Result<(), String> {
    // Through a link, as editors do: the name that others know must go on to lead there.
    let place = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let beside = |end: &str| {
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(end);
        place.with_file_name(name)
    };
    let (new, before) = (beside(".new"), beside(".before"));
    let replace = || -> std::io::Result<()> {
        let mut written = File::create(&new)?;
        if let Ok(was) = fs::metadata(&place) {
            written.set_permissions(was.permissions())?;
            fs::copy(&place, &before)?;
        }
        written.write_all(text.as_bytes())?;
        written.sync_all()?;
        fs::rename(&new, &place)?;
        // The folder too, or the name may be lost with the power.
        File::open(place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
    };
    replace().map_err(|error| {
        // Half a file that nobody asked for.
        let _ = fs::remove_file(&new);
        format!("cannot write \"{}\": {error}", file.display())
    })
}

/// The answers to all names of a config, as far as they are `known` or come in good time.
pub async fn answers(recipe: &Recipe, known: &Resolved) -> Arc<Resolved> {
    let plan = recipe.plan(known);
    let mut answers = Resolved::new();
    let mut unknown = Vec::new();
    for name in &plan.names {
        match known.get(name) {
            Some(known) => {
                answers.insert(name.clone(), known.clone());
            }
            None => unknown.push(name.clone()),
        }
    }
    if !unknown.is_empty() {
        answers.extend(side::first_answers(&unknown, &plan).await);
    }
    Arc::new(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_replaced_whole_and_the_one_before_stays_beside_it() {
        let folder = std::env::temp_dir().join(format!("evenkeel-current-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (real, link) = (folder.join("real.toml"), folder.join("link.toml"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::read_to_string(folder.join("real.toml.before")).unwrap(), "old");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!folder.join("real.toml.new").exists());
        let nowhere = folder.join("absent/file.toml");
        assert!(write(&nowhere, "x").unwrap_err().starts_with("cannot write "));
        fs::remove_dir_all(&folder).unwrap();
    }
}
