//! BIND, which serves a zone; locked into its directory, so that its configuration is the same on both nodes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use stead_tests::command::{run, text};
use stead_tests::town::{ADDRESS, Town};

use crate::{Program, Service, is_kept, place, scene};

struct Bind {
    root: PathBuf,
    run: PathBuf,
}

const ZONE: &str = "$TTL 30\n@ SOA ns root 1 3600 600 86400 30\n@ NS ns\nns A 10.77.0.100\nword TXT one\n";

impl Bind {
    fn new(town: &Town) -> Bind {
        let bind = Bind { root: town.notes.source.clone(), run: place(town, "run") };
        ["etc", "zones"].iter().for_each(|dir| fs::create_dir_all(bind.root.join(dir)).unwrap());
        let key = bind.run.join("key");
        run(Command::new("rndc-confgen").args(["-a", "-c"]).arg(&key)).unwrap();
        let key = fs::read_to_string(&key).unwrap();
        let control = "options { default-server 127.0.0.1; default-port 9953; default-key \"rndc-key\"; };\n";
        fs::write(bind.run.join("rndc.conf"), format!("{key}{control}")).unwrap();
        let text = format!(
            "{key}options {{ directory \"/zones\"; pid-file none; lock-file none; session-keyfile none; recursion no;\n\
             dnssec-validation no; listen-on {{ any; }}; listen-on-v6 {{ none; }}; }};\n\
             controls {{ inet 127.0.0.1 port 9953 allow {{ any; }} keys {{ \"rndc-key\"; }}; }};\n\
             zone \"example.test\" {{ type primary; file \"example.test\"; }};\n"
        );
        fs::write(bind.root.join("etc/named.conf"), text).unwrap();
        fs::write(bind.root.join("zones/example.test"), ZONE).unwrap();
        // It writes beside its zones, as its own user.
        run(Command::new("chown").args(["-R", "bind"]).arg(bind.root.join("zones"))).unwrap();
        bind
    }
}

impl Service for Bind {
    fn kits(&self) -> Vec<Vec<String>> {
        let values = [
            format!("root={}", self.root.display()),
            "config=/etc/named.conf".into(),
            format!("pid={}", self.programs()[0].pid_file.display()),
            format!("rndc=-c {}/rndc.conf", self.run.display()),
            format!("address={ADDRESS}"),
            "name=ns.example.test".into(),
            format!("holds={ADDRESS}"),
        ];
        vec![["bind".to_owned()].into_iter().chain(values).collect()]
    }

    fn asked(&self, town: &Town) -> Result<String> {
        let mut dig = town.berne.command("dig");
        dig.args(["+short", "+tries=1", "+time=1", &format!("@{ADDRESS}"), "word.example.test", "TXT"]);
        Ok(text(&dig.output()?.stdout))
    }

    fn programs(&self) -> Vec<Program> {
        vec![Program { name: "bind", pid_file: self.run.join("named.pid"), may_hang: true }]
    }
}

#[test]
fn bind_is_kept_up_moved_and_brought_back() {
    is_kept(&mut scene(Bind::new)).unwrap();
}
