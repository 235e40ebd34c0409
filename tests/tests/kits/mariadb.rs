//! MariaDB, which serves a table.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use stead_tests::command::{run, text};
use stead_tests::town::{ADDRESS, Town};

use crate::{Program, Service, Side, is_kept, scene, sides};

struct MariaDb {
    paris: Side,
}

impl MariaDb {
    fn new(town: &Town) -> MariaDb {
        let [paris, _] = sides(town);
        let data = format!("--datadir={}/data", paris.set.display());
        let mut install = Command::new("mysql_install_db");
        install.args(["--user=mysql", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        run(install.arg(&data)).unwrap();
        // One on each line: so the server reads them when it has no clients.
        let words = "FLUSH PRIVILEGES;\nCREATE DATABASE notes;\nCREATE TABLE notes.said (word TEXT) ENGINE=InnoDB;\n\
                     INSERT INTO notes.said VALUES ('one');\nCREATE USER guest@'%';\n\
                     GRANT SELECT ON notes.* TO guest@'%';\n";
        let mut bootstrap = Command::new("mariadbd");
        bootstrap.args(["--no-defaults", "--user=mysql", "--bootstrap", "--innodb-buffer-pool-size=8M"]);
        bootstrap.arg(&data).stdin(Stdio::piped());
        let mut child = bootstrap.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "the tables are made");
        MariaDb { paris }
    }
}

impl Service for MariaDb {
    fn kits(&self) -> Vec<Vec<String>> {
        let own = self.paris.own_by_set();
        let values = [
            format!("data={}/data", self.paris.set.display()),
            format!("run={own}"),
            format!("log={own}/mariadb.log"),
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
        vec![Program { name: "mariadb", pid_file: self.paris.own.join("stead.pid") }]
    }
}

#[test]
fn mariadb_is_kept_up_moved_and_brought_back() {
    is_kept(&mut scene(MariaDb::new)).unwrap();
}
