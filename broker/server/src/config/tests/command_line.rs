//! Every flag of the NATS server.

use super::*;

type Shown = fn(&Config) -> String;

const FLAGS: &[(&str, Shown, &str)] = &[
    ("-a h", |c| c.client.bind.host.clone(), "h"),
    ("--addr h", |c| c.client.bind.host.clone(), "h"),
    ("--net h", |c| c.client.bind.host.clone(), "h"),
    ("-p 1", |c| c.client.bind.port.to_string(), "1"),
    ("--port=1", |c| c.client.bind.port.to_string(), "1"),
    (
        "-n x",
        |c| format!("{:?}", c.client.server_name),
        "Some(\"x\")",
    ),
    (
        "--name x",
        |c| format!("{:?}", c.client.server_name),
        "Some(\"x\")",
    ),
    (
        "--server_name x",
        |c| format!("{:?}", c.client.server_name),
        "Some(\"x\")",
    ),
    (
        "-P /p",
        |c| format!("{:?}", c.process_files.pid_file),
        "Some(\"/p\")",
    ),
    (
        "--pid /p",
        |c| format!("{:?}", c.process_files.pid_file),
        "Some(\"/p\")",
    ),
    (
        "--ports_file_dir /d",
        |c| format!("{:?}", c.process_files.ports_file_dir),
        "Some(\"/d\")",
    ),
    (
        "-m 8",
        |c| format!("{:?} {}", c.monitor, c.monitor_tls),
        "Some(Bind { host: \"0.0.0.0\", port: 8 }) false",
    ),
    (
        "--http_port 8",
        |c| c.monitor.as_ref().unwrap().port.to_string(),
        "8",
    ),
    (
        "-ms 8 --tlscert c --tlskey k",
        |c| format!("{:?} {}", c.monitor.as_ref().unwrap().port, c.monitor_tls),
        "8 true",
    ),
    (
        "--https_port 8 --tlscert c --tlskey k",
        |c| c.monitor_tls.to_string(),
        "true",
    ),
    (
        "--client_advertise h:1",
        |c| format!("{:?}", c.client.advertise.as_ref().unwrap().port),
        "Some(1)",
    ),
    ("-l /l", |c| format!("{:?}", c.log.file), "Some(\"/l\")"),
    ("--log /l", |c| format!("{:?}", c.log.file), "Some(\"/l\")"),
    ("-T=false", |c| c.log.time.to_string(), "false"),
    ("--logtime=false", |c| c.log.time.to_string(), "false"),
    ("--logtime_utc", |c| c.log.time_utc.to_string(), "true"),
    ("-s=false -r=", |c| c.warnings.len().to_string(), "0"),
    (
        "--log_size_limit 5",
        |c| format!("{:?}", c.log.file_size_limit),
        "Some(5)",
    ),
    ("-D", levels, "true false false"),
    ("--debug", levels, "true false false"),
    ("-V", levels, "false true false"),
    ("--trace", levels, "false true false"),
    ("-VV", levels, "false true true"),
    ("-DV", levels, "true true false"),
    ("-DVV", levels, "true true true"),
    ("-DV=false", levels, "false false false"),
    (
        "--max_traced_msg_len 5",
        |c| format!("{:?}", c.log.max_traced_msg_len),
        "Some(5)",
    ),
    (
        "--user u --pass p",
        |c| {
            c.auth
                .single
                .as_ref()
                .map(|(u, p)| format!("{u} {}", p.expose()))
                .unwrap()
        },
        "u p",
    ),
    (
        "--auth t",
        |c| c.auth.token.as_ref().unwrap().expose().to_owned(),
        "t",
    ),
    (
        "--tls --tlscert c --tlskey k",
        |c| format!("{:?}", c.client.tls.as_ref().unwrap().settings.pairs),
        "[PairFiles { cert: \"c\", key: \"k\" }]",
    ),
    (
        "--tlsverify --tlscert c --tlskey k --tlscacert a",
        |c| format!("{:?}", c.client.tls.as_ref().unwrap().settings.ca_file),
        "Some(\"a\")",
    ),
    (
        "--cluster nats://u:p@h:1",
        |c| format!("{:?}", c.cluster.as_ref().unwrap().bind),
        "Bind { host: \"h\", port: 1 }",
    ),
    (
        "--cluster_listen nats://h:-1",
        |c| c.cluster.as_ref().unwrap().bind.port.to_string(),
        "0",
    ),
    (
        "--cluster nats://h:1 --routes nats://a:1,nats-route://u:p@b:2",
        |c| {
            c.cluster
                .as_ref()
                .unwrap()
                .settings
                .routes
                .len()
                .to_string()
        },
        "2",
    ),
    (
        "--cluster nats://h:1 --cluster_name x",
        |c| format!("{:?}", c.cluster.as_ref().unwrap().settings.name),
        "Some(\"x\")",
    ),
    (
        "--cluster nats://h:1 --no_advertise",
        |c| {
            c.cluster
                .as_ref()
                .unwrap()
                .settings
                .no_advertise
                .to_string()
        },
        "true",
    ),
    (
        "--cluster nats://h:1 --cluster_advertise x:1",
        |c| format!("{:?}", c.cluster.as_ref().unwrap().settings.advertise),
        "Some(\"x:1\")",
    ),
    (
        "--cluster nats://h:1 --connect_retries 3",
        |c| {
            c.cluster
                .as_ref()
                .unwrap()
                .settings
                .connect_retries
                .to_string()
        },
        "3",
    ),
    (
        "-js",
        |c| c.warnings.join(""),
        "flag -js has no effect: JetStream is not supported",
    ),
    (
        "-sd /d",
        |c| c.warnings.join(""),
        "flag -sd has no effect: JetStream is not supported",
    ),
    (
        "--store_dir /d",
        |c| c.warnings.join(""),
        "flag -store_dir has no effect: JetStream is not supported",
    ),
    ("--profile 0", |c| c.warnings.len().to_string(), "0"),
];

fn levels(config: &Config) -> String {
    let log = &config.log;
    format!("{} {} {}", log.debug, log.trace, log.trace_verbose)
}

#[test]
fn every_flag_changes_what_it_names() {
    for (line, shown, expected) in FLAGS {
        assert_eq!(shown(&run(line)), *expected, "{line}");
    }
}

#[test]
fn flags_win_over_the_file_every_time_it_is_read() {
    let file = WithFile::new(
        "port: 1\ndebug: true\nauthorization { user: a, password: b }\ncluster { listen: x:1, authorization { user: a, password: b }, routes: [\"nats://r:1\"] }",
    );
    let flags = "-p 2 -D=false -user c -pass d --cluster nats://y:2 --routes=";
    for _ in 0..2 {
        let config = file.run(flags).unwrap();
        assert_eq!(config.client.bind.port, 2);
        assert!(!config.log.debug);
        assert_eq!(config.auth.single.unwrap().0, "c");
        let cluster = config.cluster.unwrap();
        assert_eq!(cluster.bind.host, "y");
        assert!(cluster.settings.login.is_none() && cluster.settings.routes.is_empty());
        fs::write(file.path("stan.conf"), "port: 3\ndebug: true").unwrap();
    }
}

#[test]
fn a_signal_is_for_another_process() {
    let request = |line: &str| match read(&words(line), &no_variables).unwrap() {
        Command::Signal(request) => (request.action, request.target),
        other => panic!("{other:?}"),
    };
    for (name, action) in [
        ("stop", SignalAction::Stop),
        ("quit", SignalAction::Quit),
        ("term", SignalAction::Term),
        ("reopen", SignalAction::Reopen),
        ("reload", SignalAction::Reload),
        ("ldm", SignalAction::LameDuck),
    ] {
        assert_eq!(request(&format!("-sl {name}")), (action, None));
        let target = Some("/run/*.pid".to_owned());
        assert_eq!(
            request(&format!("--signal={name}=/run/*.pid")),
            (action, target)
        );
    }
    assert_eq!(refusal("-sl hup"), "unknown signal \"hup\"");
    assert_eq!(refusal("-sl stop=1=2"), "invalid signal parameters: [2]");
}

#[test]
fn a_check_needs_a_file_and_says_what_is_wrong_with_it() {
    assert_eq!(
        refusal("-t"),
        "must specify [-c, --config] option to check configuration file syntax"
    );
    let file = WithFile::new("port: x");
    let args = ["-t".to_owned(), "-c".to_owned(), file.path("stan.conf")];
    assert!(read(&args, &no_variables).is_err());
}

#[test]
fn secrets_on_the_command_line_are_pointed_out_but_not_shown() {
    let config = run("--user u --pass s3cret");
    assert!(config.warnings[0].starts_with("the value of flag -pass can be seen"));
    assert!(!format!("{config:?}").contains("s3cret"));
    for line in [
        "--cluster nats://u:s3cret@h",
        "--cluster nats://h:1 --routes nats://u:s3cret@h",
    ] {
        assert!(!refusal(line).contains("s3cret"), "{line}");
    }
}

#[test]
fn help_lists_every_flag_that_does_something() {
    let Ok(Command::Print(help)) = read(&words("-help_tls"), &no_variables) else {
        panic!("no help")
    };
    let lines = FLAGS.iter().flat_map(|(line, ..)| line.split(' '));
    for word in lines.filter(|word| word.starts_with('-')) {
        let name = word.trim_start_matches('-').split('=').next().unwrap();
        if !["s", "r", "profile"].contains(&name) {
            let listed = |end: &str| help.contains(&format!("-{name}{end}"));
            assert!(listed(",") || listed(" "), "{name} in {help}");
        }
    }
}
