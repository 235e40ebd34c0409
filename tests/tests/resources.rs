//! Resources that depend on each other: restarted where they fail, moved where they cannot be kept up, refused where they
//! cannot be meant; and PostgreSQL by the agent of Debian's resource-agents.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stead_tests::command::{text, until};
use stead_tests::host::Host;
use stead_tests::postgres::Cluster;
use stead_tests::run::is_alive;
use stead_tests::service::lost;
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(30);

fn town() -> Town {
    Town::new(Path::new(LOAD)).unwrap()
}

/// Has lyon apply the plan as it is, with those resources in its only group.
fn with_resources(town: &Town, resources: &str) -> Result<()> {
    let plan = town.site.lyon.cli(["plan", "show"])?;
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, format!("{plan}\n{resources}"))?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")]).map(drop)
}

/// Three commands for resources that are files of the host; one with `.bad` behind its name does not start.
fn program(town: &Town) -> PathBuf {
    let path = town.site.hosts.run().dir().join("resource");
    let text = "#!/bin/sh\nfile=$(dirname \"$STEAD_TEST_HOST\")/$2\ncase $1 in\n\
                start) [ ! -e \"$file.bad\" ] && : >\"$file\" ;;\nstop) rm -f \"$file\" ;;\nstatus) [ -e \"$file\" ] || exit 3 ;;\nesac\n";
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn resource(program: &Path, name: &str, requires: &str) -> String {
    let command = |word: &str| format!("{word} = ['{}', '{word}', '{name}']\n", program.display());
    let commands: String = ["start", "stop", "status"].map(command).concat();
    format!(
        "[[group.resource]]\nname = '{name}'\nrequires = {requires}\nrestarts = 2\nquick = {{ interval = '200ms' }}\n{commands}\n"
    )
}

fn has(host: &Host, name: &str) -> bool {
    host.dir().join(name).exists()
}

#[test]
fn what_cannot_be_kept_up_is_restarted_and_then_moved_with_nothing_lost() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let program = program(&town);
    with_resources(&town, &(resource(&program, "web", "['base']") + &resource(&program, "base", "[]"))).unwrap();
    let (paris, lyon) = (&town.site.hosts.paris, &town.site.hosts.lyon);
    let are_on = |host: &Host| Ok(has(host, "web") && has(host, "base"));
    until("all are up on paris", SOON, || are_on(paris)).unwrap();
    assert!(!has(lyon, "web") && !has(lyon, "base"));
    town.is_served_by("paris").unwrap();
    let client = town.client(100).unwrap();

    fs::remove_file(paris.dir().join("base")).unwrap();
    town.tells("paris", "resource base: is restarted: it does not run").unwrap();
    town.tells("paris", "all resources are up again").unwrap();
    until("all are up again", SOON, || are_on(paris)).unwrap();

    fs::write(paris.dir().join("web.bad"), "").unwrap();
    fs::remove_file(paris.dir().join("web")).unwrap();
    town.tells("paris", "the resources cannot be kept up here").unwrap();
    town.tells("lyon", "the other node cannot keep its resources up: it is asked to hand over").unwrap();
    town.is_served_by("lyon").unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    until("all are up on lyon", SOON, || are_on(lyon)).unwrap();
    assert!(!has(paris, "web") && !has(paris, "base"), "undone cleanly");
    fs::remove_file(paris.dir().join("web.bad")).unwrap();

    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    until("all are up on paris", SOON, || are_on(paris)).unwrap();
    assert!(!has(lyon, "web") && !has(lyon, "base"));
    town.answers(&client, "paris", SOON).unwrap();
    let answers = client.stop();
    assert_eq!(lost(&answers, &town.notes.source.join("notes.db")).unwrap(), 0);
}

/// Its start tells its process of it, and then waits until it may go on.
fn slow_program(town: &Town) -> PathBuf {
    let path = town.site.hosts.run().dir().join("slow");
    let text = "#!/bin/sh\nhere=$(dirname \"$STEAD_TEST_HOST\")\ncase $1 in\n\
                start) echo $$ >>\"$here/starting\"; while [ ! -e \"$here/go\" ]; do sleep 0.02; done\n\
                echo $$ >>\"$here/started\"; : >\"$here/$2\" ;;\n\
                stop) rm -f \"$here/$2\" ;;\nstatus) [ -e \"$here/$2\" ] || exit 3 ;;\nesac\n";
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Lyon watches paris, with a resource that comes up on that host, and on the other one when it may.
fn with_slow(town: &Town, quick: &Host) -> Result<()> {
    town.monitor(&["--witness", "oslo"])?;
    fs::write(quick.dir().join("go"), "")?;
    with_resources(town, &resource(&slow_program(town), "slow", "[]"))
}

fn pids(host: &Host, file: &str) -> Vec<i32> {
    let text = fs::read_to_string(host.dir().join(file)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn a_start_that_outlives_its_daemon_is_ended_before_the_next_one() {
    let mut town = town();
    let (paris, lyon) = (town.site.hosts.paris.clone(), town.site.hosts.lyon.clone());
    with_slow(&town, &paris).unwrap();
    until("it is up on paris", SOON, || Ok(has(&paris, "slow"))).unwrap();
    town.is_served_by("paris").unwrap();

    let mut switchover = town.site.paris.command(["switchover", GROUP, "--yes"]).unwrap().spawn().unwrap();
    until("lyon starts it", SOON, || Ok(pids(&lyon, "starting").len() == 1)).unwrap();
    let first = pids(&lyon, "starting")[0];
    town.site.lyon.kill();
    assert!(is_alive(first), "it outlives its daemon");
    town.site.lyon.launch().unwrap();
    until("lyon starts it again", SOON, || Ok(pids(&lyon, "starting").len() == 2)).unwrap();
    assert!(!is_alive(first), "two starts at once");
    fs::write(lyon.dir().join("go"), "").unwrap();
    town.is_served_by("lyon").unwrap();
    assert_eq!(pids(&lyon, "started"), pids(&lyon, "starting")[1..]);
    switchover.wait().unwrap();
    town.settles_with("lyon").unwrap();
    assert!(!has(&paris, "slow"));
}

#[test]
fn a_start_whose_daemon_stays_dead_brings_nothing_up_past_the_lease() {
    let mut town = town();
    let (paris, lyon) = (town.site.hosts.paris.clone(), town.site.hosts.lyon.clone());
    with_slow(&town, &lyon).unwrap();
    until("paris starts it", SOON, || Ok(pids(&paris, "starting").len() == 1)).unwrap();
    let first = pids(&paris, "starting")[0];
    town.site.paris.kill();
    town.is_served_by("lyon").unwrap();
    until("it is up on lyon", SOON, || Ok(has(&lyon, "slow"))).unwrap();
    assert!(!is_alive(first), "it goes on past the lease");
    fs::write(paris.dir().join("go"), "").unwrap();
    town.site.paris.launch().unwrap();
    town.does("paris", "restore-required").unwrap();
    assert!(pids(&paris, "started").is_empty() && !has(&paris, "slow"));
}

#[test]
fn what_a_person_takes_offline_or_works_on_is_left_alone() {
    let mut town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let program = program(&town);
    with_resources(&town, &resource(&program, "web", "[]")).unwrap();
    let paris = town.site.hosts.paris.dir().join("web");
    until("it is up on paris", SOON, || Ok(paris.exists())).unwrap();
    town.is_served_by("paris").unwrap();
    let is_held = |town: &Town, name: &str, hold: &str| {
        let monitor = || town.monitor_at(town.node(name));
        until(&format!("{name} says {hold}"), SOON, || Ok(monitor()?["hold"] == hold)).unwrap();
    };

    // In maintenance: asked of the node that stands by, done where the group is.
    town.site.lyon.cli(["group", "maintenance", GROUP, "on"]).unwrap();
    is_held(&town, "paris", "maintenance");
    is_held(&town, "lyon", "maintenance");
    fs::remove_file(&paris).unwrap();
    town.tells("paris", "resource web: left alone in maintenance").unwrap();
    assert!(!paris.exists());
    town.site.paris.cli(["group", "maintenance", GROUP, "off"]).unwrap();
    until("it is restarted", SOON, || Ok(paris.exists())).unwrap();

    // Offline: nobody serves, also when its node dies.
    town.site.lyon.cli(["group", "offline", GROUP, "--yes"]).unwrap();
    town.does("paris", "offline").unwrap();
    assert!(!paris.exists() && !town.site.hosts.paris.has_address(ADDRESS).unwrap());
    is_held(&town, "lyon", "offline");
    town.paris_dies().unwrap();
    town.tells("lyon", "no takeover: a person took it offline").unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "offline").unwrap();
    town.site.paris.cli(["group", "online", GROUP]).unwrap();
    town.is_served_by("paris").unwrap();
    until("it is up on paris", SOON, || Ok(paris.exists())).unwrap();

    town.site.paris.wait(GROUP).unwrap();
    town.site.paris.cli(["group", "move", GROUP, "--yes"]).unwrap();
    town.is_served_by("lyon").unwrap();
    town.settles_with("lyon").unwrap();
    town.site.paris.cli(["group", "move", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_line_on_either_node() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let before = town.site.lyon.cli(["plan", "show"]).unwrap();
    for (resources, expected) in [
        ("agent = 'ocf:nobody:Nothing'", "ocf:nobody:Nothing is not installed"),
        ("agent = 'ocf:heartbeat:IPaddr2'", "IPaddr2 needs the parameter ip"),
        (
            "agent = 'ocf:heartbeat:IPaddr2'\n[group.resource.parameters]\nip = '10.77.0.101'\narp_cuont = '1'",
            "IPaddr2 has no parameter arp_cuont; did you mean arp_count?",
        ),
        (
            "agent = 'ocf:heartbeat:IPaddr2'\n[group.resource.parameters]\nip = '10.77.0.101'\narp_count = 'x'",
            "the parameter arp_count is a whole number",
        ),
        ("requires = ['b']\nunit = 'a'", "requires \"b\", which is none of the group's resources"),
        ("requires = ['a']\nunit = 'a'", "resources a require each other in a ring"),
        ("agent = 'IPaddr2'", "agent is not the name of one"),
    ] {
        let refused = with_resources(&town, &format!("[[group.resource]]\nname = 'a'\n{resources}\n"));
        let why = format!("{:#}", refused.expect_err(resources));
        assert!(why.contains(expected) && why.contains("line "), "{expected}: {why}");
    }
    assert_eq!(town.site.lyon.cli(["plan", "show"]).unwrap(), before);
}

#[test]
fn a_program_that_is_not_installed_is_refused_when_the_plan_is_applied_and_told_when_it_is_checked() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let before = town.site.lyon.cli(["plan", "show"]).unwrap();
    let programs = sides(&town).map(|side| side.join("program"));
    // By the paths of the set it is another file on each node.
    let program = town.notes.source.join("../own/program").display().to_string();
    let agent = format!(
        "[[group.resource]]\nname = 'a'\nagent = 'ocf:heartbeat:anything'\n[group.resource.parameters]\n\
         cmdline_options = '1000'\nbinfile = '{program}'\n"
    );
    let command = format!(
        "[[group.resource]]\nname = 'a'\nstatus = ['/bin/true']\nstop = ['/bin/true']\nstart = ['{program}', '1000']\n"
    );
    let is_refused = |resource: &str, node: &str, line: &str| {
        let why = format!("{:#}", with_resources(&town, resource).expect_err(node));
        let written = fs::read_to_string(town.site.hosts.run().dir().join("plan.toml")).unwrap();
        let line = 1 + written.lines().position(|written| written.starts_with(line)).unwrap();
        let place = format!("plan.toml: line {line}: group notes: {node} could not start resource a");
        assert!(why.contains(&place) && why.contains(&format!("install what it needs on {node}")), "{place}: {why}");
        assert_eq!(town.site.lyon.cli(["plan", "show"]).unwrap(), before);
    };
    is_refused(&agent, "lyon", "binfile");
    is_refused(&command, "lyon", "[[group.resource]]");
    std::os::unix::fs::symlink("/bin/sleep", &programs[1]).unwrap();
    is_refused(&agent, "paris", "binfile");
    is_refused(&command, "paris", "[[group.resource]]");
    std::os::unix::fs::symlink("/bin/sleep", &programs[0]).unwrap();
    with_resources(&town, &agent).unwrap();
    town.tells("paris", "resources: done").unwrap();

    // What goes later is found before the day.
    let said = || text(&town.site.lyon.output(["plan", "check"]).unwrap().stdout);
    let told = |node| format!("group notes on {node}: resource a: ocf:heartbeat:anything answers validate-all with");
    assert!(!said().contains("validate-all"), "{}", said());
    fs::remove_file(&programs[1]).unwrap();
    assert!(said().contains(&told("lyon")) && !said().contains(&told("paris")), "{}", said());
}

/// A directory of each node's own, beside its copy of the set.
fn sides(town: &Town) -> [PathBuf; 2] {
    [&town.notes.source, &town.notes.replica].map(|set| {
        let own = set.parent().unwrap().join("own");
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        own
    })
}

/// PostgreSQL in the protected directory, by its agent.
fn postgres(town: &Town, sockets: &Path) -> String {
    let bin = Cluster::programs().unwrap();
    format!(
        "[[group.resource]]\nname = 'db'\nagent = 'ocf:heartbeat:pgsql'\nrestarts = 2\nstart-timeout = '1m'\n\
         quick = {{ interval = '500ms' }}\n\
         [group.resource.parameters]\npgctl = '{bin}/pg_ctl'\npsql = '{bin}/psql'\npgdata = '{data}'\n\
         socketdir = '{sockets}'\nstart_opt = '-c listen_addresses=* -c unix_socket_directories={sockets}'\npghost = '{sockets}'\n\
         [[group.resource.check]]\ncommand = ['{bin}/psql', '-h', '{ADDRESS}', '-U', 'postgres', '-c', 'SELECT count(*) FROM said']\n\
         interval = '500ms'\nfailures = 2\n",
        bin = bin.display(),
        data = town.notes.source.join("db").display(),
        sockets = sockets.display(),
    )
}

/// What a client gets from the database behind the address.
fn asked(town: &Town, statement: &str) -> Result<String> {
    let mut psql = town.berne.command(Cluster::programs()?.join("psql"));
    psql.args(["-h", ADDRESS, "-U", "postgres", "-Atqc", statement]).env("PGCONNECT_TIMEOUT", "2");
    let output = psql.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(text(&output.stdout).trim().to_owned())
}

fn answers(town: &Town, count: &str) -> Result<()> {
    let answered = || Ok(asked(town, "SELECT count(*) FROM said").is_ok_and(|told| told == count));
    until(&format!("the database answers with {count}"), SOON, answered).with_context(|| town.standing())
}

/// The processes of the database's server on that host.
fn kill_server(host: &Host, data: &Path) -> Result<()> {
    let pid =
        fs::read_to_string(data.join("postmaster.pid")).with_context(|| format!("no server on {}", host.name()))?;
    let pid: i32 = pid.lines().next().unwrap_or_default().parse()?;
    let pid = rustix::process::Pid::from_raw(pid).context("no process")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}

#[test]
fn a_database_by_its_agent_is_restarted_moved_and_brought_back() {
    let town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    let data = town.notes.source.join("db");
    let mut cluster = Cluster::create(&town.site.hosts.paris, &data).unwrap();
    cluster.start().unwrap();
    cluster.sql("CREATE TABLE said (text text)").unwrap();
    cluster.stop();
    let hba = fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    fs::write(data.join("pg_hba.conf"), format!("{hba}host all all 10.77.0.0/24 trust\n")).unwrap();
    town.site.protect(&town.notes, &[]).unwrap();
    let sockets = town.site.hosts.run().dir().join("sockets");
    fs::create_dir(&sockets).unwrap();
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o777)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    with_resources(&town, &postgres(&town, &sockets)).unwrap();
    town.tells("paris", "resources: done").unwrap();
    answers(&town, "0").unwrap();
    asked(&town, "INSERT INTO said VALUES ('one')").unwrap();

    // The copy that stands by cannot be written, which speaks not against it.
    let checked = text(&town.site.lyon.output(["plan", "check"]).unwrap().stdout);
    assert!(!checked.contains("resource db"), "{checked}");

    // It crashes: recovered where it is.
    kill_server(&town.site.hosts.paris, &data).unwrap();
    town.tells("paris", "resource db: is restarted").unwrap();
    answers(&town, "1").unwrap();

    // It lives, and its work cannot be done: the deep check finds it. A restart mends nothing, so it is moved, and what does
    // not work on lyon either comes back no more.
    asked(&town, "ALTER TABLE said RENAME TO gone").unwrap();
    town.tells("paris", "resource db cannot be kept up").unwrap();
    town.is_served_by("lyon").unwrap();
    until("the database answers", SOON, || Ok(asked(&town, "ALTER TABLE gone RENAME TO said").is_ok())).unwrap();
    answers(&town, "1").unwrap();
    asked(&town, "INSERT INTO said VALUES ('two')").unwrap();
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    answers(&town, "2").unwrap();
}
