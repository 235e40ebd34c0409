//! MariaDB, which serves a table.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use stead_tests::command::{run, text};
use stead_tests::town::{ADDRESS, Town};

use crate::{Program, Service, is_kept, place, scene};

struct MariaDb {
    data: PathBuf,
    run: PathBuf,
}

impl MariaDb {
    fn new(town: &Town) -> MariaDb {
        let mariadb = MariaDb { data: town.notes.source.join("data"), run: place(town, "run") };
        let mut install = Command::new("mysql_install_db");
        install.args(["--user=mysql", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        run(install.arg(format!("--datadir={}", mariadb.data.display()))).unwrap();
        // One on each line: so the server reads them when it has no clients.
        let words = "FLUSH PRIVILEGES;\nCREATE DATABASE notes;\nCREATE TABLE notes.said (word TEXT) ENGINE=InnoDB;\n\
                     INSERT INTO notes.said VALUES ('one');\nCREATE USER guest@'%';\n\
                     GRANT SELECT ON notes.* TO guest@'%';\n";
        let mut bootstrap = Command::new("mariadbd");
        bootstrap.args(["--no-defaults", "--user=mysql", "--bootstrap", "--innodb-buffer-pool-size=8M"]);
        bootstrap.arg(format!("--datadir={}", mariadb.data.display())).stdin(Stdio::piped());
        let mut child = bootstrap.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "the tables are made");
        mariadb
    }
}

impl Service for MariaDb {
    fn kits(&self) -> Vec<Vec<String>> {
        let run = self.run.display();
        let values = [
            format!("data={}", self.data.display()),
            format!("run={run}"),
            format!("log={run}/mariadb.log"),
            "table=notes.said".into(),
        ];
        vec![["mariadb".to_owned()].into_iter().chain(values).collect()]
    }

    fn asked(&self, town: &Town) -> Result<String> {
        let mut client = town.berne.command("timeout");
        client.args([
            "3",
            "mariadb",
            "--no-defaults",
            "-h",
            ADDRESS,
            "-u",
            "guest",
            "-Ne",
            "SELECT word FROM notes.said",
        ]);
        let output = client.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(text(&output.stdout))
    }

    fn programs(&self) -> Vec<Program> {
        vec![Program { name: "mariadb", pid_file: self.run.join("stead.pid"), may_hang: true }]
    }
}

#[test]
fn mariadb_is_kept_up_moved_and_brought_back() {
    is_kept(&mut scene(MariaDb::new)).unwrap();
}
