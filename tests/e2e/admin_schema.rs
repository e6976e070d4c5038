//! The OpenAPI document is the truth: schemathesis asks a node everything the document allows and much that it does not, and
//! looks whether each answer is one that the document promises.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::admin_client::ask;
use crate::backend::{backend, polite};
use crate::daemon::{Daemon, Folder, free_address, skipped};

const TOKEN: &str = "operator-token-of-the-test";

/// The Python that has it is the one that `./test` makes.
fn schemathesis() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/st");
    let works = Command::new(&made).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    works.is_ok_and(|status| status.success()).then_some(made)
}

/// Its seed is fixed, so a failure comes again.
#[test]
fn every_answer_is_one_that_the_openapi_document_promises() {
    const TEST: &str = "every_answer_is_one_that_the_openapi_document_promises";
    let Some(st) = schemathesis() else { return skipped(TEST, "schemathesis") };
    let (used, spare, listen) = (backend(polite), backend(polite), free_address());
    // printf %s operator-token-of-the-test | sha256sum
    let token = "[[admin.token]]\nname = \"ops\"\nrole = \"operate\"\n\
         sha256 = \"SHA256\"\n";
    let token = token.replace("SHA256", &sha256(TOKEN));
    let body = format!(
        "{token}[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{used}\"]\n\
         [[pool]]\nname = \"spare\"\nbackends = [\"{spare}\"]\n"
    );
    let daemon = Daemon::start("admin_schema", &body);
    for (pool, backend) in [("web", used), ("spare", spare)] {
        let token = format!("Authorization: Bearer {TOKEN}");
        crate::daemon::until("a healthy backend", || {
            let told = ask(daemon.admin, &format!("GET /api/v1/pools/{pool}/backends/{backend}"), &[&token], None);
            (told.json()["verdict"] == "healthy").then_some(())
        });
    }
    let folder = Folder::new("admin_schema_config");
    let config = folder.0.join("schemathesis.toml");
    let accepted = "[200, 202, 409]";
    let text = format!(
        "seed = 6\nrequest-timeout = 20\n\
         hooks = \"{hooks}\"\n\
         [parameters]\n\"path.pool\" = \"spare\"\n\"path.backend\" = \"{spare}\"\n\
         \"path.code\" = \"backend_connect_refused\"\n\
         # Text of the right type may still be no config, and a dry run keeps nothing.\n\
         [[operations]]\ninclude-path = \"/api/v1/config\"\ninclude-method = \"PUT\"\n\
         checks.positive_data_acceptance.expected-statuses = [200, 400, 409, 422]\n\
         # A time limit goes with drain and maintain, and not with serve.\n\
         [[operations]]\ninclude-path = \"/api/v1/pools/{{pool}}/backends/{{backend}}/order\"\n\
         checks.positive_data_acceptance.expected-statuses = [200, 400, 409]\n\
         [[operations]]\ninclude-path = \"/api/v1/route\"\n\
         checks.positive_data_acceptance.expected-statuses = {accepted}\n\
         # Filters are codes, words and addresses of this node.\n\
         [[operations]]\ninclude-path = \"/api/v1/requests\"\n\
         checks.positive_data_acceptance.expected-statuses = [200, 400]\n\
         # They do not end; tests/e2e/admin.rs reads them.\n\
         [[operations]]\ninclude-path-regex = \"stream$\"\nenabled = false\n",
        hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/python/schemathesis_hooks.py"),
    );
    std::fs::write(&config, text).expect("the folder can be written");
    let document = format!("http://{}/api/v1/openapi.json", daemon.admin);
    let mut command = Command::new(st);
    command.current_dir(&folder.0).arg("--config-file").arg(&config).arg("run").arg(document);
    command.args(["--url", &format!("http://{}", daemon.admin), "--header", &format!("Authorization: Bearer {TOKEN}")]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--checks", "all", "--no-color"]);
    let said = command.output().expect("it was found before");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
    assert!(daemon.events().iter().all(|line| !line.contains("panicked")));
}

fn sha256(token: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
