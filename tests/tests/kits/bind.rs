//! BIND, which serves a zone; locked into its directory, so that its configuration is the same on both nodes.

use std::fs;
use std::process::Command;

use anyhow::Result;
use stead_tests::command::{run, text};
use stead_tests::town::{ADDRESS, Town};

use crate::{Program, Service, Side, is_kept, scene, sides};

struct Bind {
    paris: Side,
}

const ZONE: &str = "$TTL 30\n@ SOA ns root 1 3600 600 86400 30\n@ NS ns\nns A 10.77.0.100\nword TXT one\n";

impl Bind {
    fn new(town: &Town) -> Bind {
        let sides = sides(town);
        let key = sides[0].own.join("key");
        run(Command::new("rndc-confgen").args(["-a", "-c"]).arg(&key)).unwrap();
        let key = fs::read_to_string(&key).unwrap();
        let control = "options { default-server 127.0.0.1; default-port 9953; default-key \"rndc-key\"; };\n";
        for side in &sides {
            fs::write(side.own.join("rndc.conf"), format!("{key}{control}")).unwrap();
        }
        let [paris, _] = sides;
        ["etc", "zones"].iter().for_each(|dir| fs::create_dir(paris.set.join(dir)).unwrap());
        let text = format!(
            "{key}options {{ directory \"/zones\"; pid-file none; lock-file none; session-keyfile none; recursion no;\n\
             dnssec-validation no; listen-on {{ any; }}; listen-on-v6 {{ none; }}; }};\n\
             controls {{ inet 127.0.0.1 port 9953 allow {{ any; }} keys {{ \"rndc-key\"; }}; }};\n\
             zone \"example.test\" {{ type primary; file \"example.test\"; }};\n"
        );
        fs::write(paris.set.join("etc/named.conf"), text).unwrap();
        fs::write(paris.set.join("zones/example.test"), ZONE).unwrap();
        // It writes beside its zones, as its own user.
        run(Command::new("chown").args(["-R", "bind"]).arg(paris.set.join("zones"))).unwrap();
        Bind { paris }
    }
}

impl Service for Bind {
    fn kits(&self) -> Vec<Vec<String>> {
        let values = [
            format!("root={}", self.paris.set.display()),
            "config=/etc/named.conf".into(),
            format!("pid={}/named.pid", self.paris.own_by_set()),
            format!("rndc=-c {}/rndc.conf", self.paris.own_by_set()),
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
        vec![Program { name: "bind", pid_file: self.paris.own.join("named.pid") }]
    }
}

#[test]
fn bind_is_kept_up_moved_and_brought_back() {
    is_kept(&mut scene(Bind::new)).unwrap();
}
