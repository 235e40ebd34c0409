//! nginx, which serves a page.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use anyhow::Result;
use stead_tests::town::{ADDRESS, Town};

use crate::{Program, Service, Side, is_kept, scene, sides};

struct Nginx {
    paris: Side,
}

impl Nginx {
    fn new(town: &Town) -> Nginx {
        let sides = sides(town);
        sides.iter().for_each(|side| fs::write(side.own.join("nginx.conf"), configuration(side)).unwrap());
        let [paris, _] = sides;
        fs::create_dir(paris.set.join("html")).unwrap();
        fs::write(paris.set.join("html/index.html"), "page one\n").unwrap();
        Nginx { paris }
    }
}

/// Its log is in the set, so that it cannot be written while the node stands by.
fn configuration(Side { set, own }: &Side) -> String {
    let (set, own) = (set.display(), own.display());
    let paths =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {own}/{kind};"));
    format!(
        "pid {own}/nginx.pid;\nerror_log {set}/error.log;\nworker_processes 1;\nmaster_process off;\ndaemon on;\nevents {{}}\n\
         http {{ access_log off; {} server {{ listen 80; root html; }} }}\n",
        paths.join(" ")
    )
}

impl Service for Nginx {
    fn kits(&self) -> Vec<Vec<String>> {
        let values = [
            format!("config={}/nginx.conf", self.paris.own_by_set()),
            format!("prefix={}", self.paris.set.display()),
            format!("address={ADDRESS}:80"),
            "expect=page one".into(),
        ];
        vec![["nginx".to_owned()].into_iter().chain(values).collect()]
    }

    fn asked(&self, town: &Town) -> Result<String> {
        let page = town.berne.inside(|| -> Result<String> {
            let address = format!("{ADDRESS}:80").parse()?;
            let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        page?
    }

    fn programs(&self) -> Vec<Program> {
        vec![Program { name: "nginx", pid_file: self.paris.own.join("nginx.pid") }]
    }
}

#[test]
fn nginx_is_kept_up_moved_and_brought_back() {
    is_kept(&mut scene(Nginx::new)).unwrap();
}
