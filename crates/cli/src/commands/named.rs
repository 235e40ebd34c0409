use std::ffi::OsString;
use std::process::ExitCode;

use stead_model::plan::IdentityPlan;

use super::Ended;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Host name that it sees
    #[arg(value_name = "NAME")]
    host: String,
    /// Machine id that it sees: 32 digits 0-9 and a-f
    #[arg(long, value_name = "ID")]
    machine_id: Option<String>,
    /// Line that it sees in /etc/hosts before the node's own, as '10.0.0.100 paris'; may be said several times
    #[arg(long, value_name = "LINE")]
    hosts: Vec<String>,
    /// Program, with its path or found in PATH, and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

pub fn run(args: Args) -> Ended {
    let Args { host, machine_id, hosts, program } = args;
    let failure = stead_daemon::names::become_named(&IdentityPlan { host, machine_id, hosts: Some(hosts) }, &program);
    eprintln!("stead: {failure}");
    Ok(ExitCode::from(stead_daemon::names::NOT_STARTED))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::{Cli, Command};

    #[test]
    fn what_stands_behind_the_dashes_is_the_program() {
        let words =
            ["stead", "as", "paris", "--hosts=10.0.0.1 paris", "--hosts=::2 p", "--", "/bin/x", "--hosts", "--"];
        let Command::As(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
        assert_eq!((args.host.as_str(), args.machine_id), ("paris", None));
        assert_eq!(args.hosts, ["10.0.0.1 paris", "::2 p"]);
        assert_eq!(args.program, ["/bin/x", "--hosts", "--"]);
        for bad in
            [vec!["stead", "as", "paris"], vec!["stead", "as", "paris", "/bin/x"], vec!["stead", "as", "--", "/bin/x"]]
        {
            assert!(Cli::try_parse_from(bad).is_err());
        }
    }
}
