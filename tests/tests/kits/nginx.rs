//! nginx, which serves a page.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use stead_tests::town::{ADDRESS, Town};

use crate::{Program, Service, is_kept, place, scene};

struct Nginx {
    root: PathBuf,
    run: PathBuf,
}

impl Nginx {
    fn new(town: &Town) -> Nginx {
        let nginx = Nginx { root: town.notes.source.clone(), run: place(town, "run") };
        fs::create_dir(nginx.root.join("html")).unwrap();
        fs::write(nginx.root.join("html/index.html"), "page one\n").unwrap();
        let run = nginx.run.display();
        let paths =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {run}/{kind};"));
        let text = format!(
            "pid {run}/nginx.pid;\nerror_log {run}/error.log;\nworker_processes 1;\nmaster_process off;\ndaemon on;\nevents {{}}\n\
             http {{ access_log off; {} server {{ listen 80; root html; }} }}\n",
            paths.join(" ")
        );
        fs::write(nginx.root.join("nginx.conf"), text).unwrap();
        nginx
    }
}

impl Service for Nginx {
    fn kits(&self) -> Vec<Vec<String>> {
        let root = self.root.display();
        let values = [
            format!("config={root}/nginx.conf"),
            format!("prefix={root}"),
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
        vec![Program { name: "nginx", pid_file: self.run.join("nginx.pid"), may_hang: true }]
    }
}

#[test]
fn nginx_is_kept_up_moved_and_brought_back() {
    is_kept(&mut scene(Nginx::new)).unwrap();
}
