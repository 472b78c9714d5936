mod auth;
mod command_line;
mod external;
mod keys;
mod listeners;
mod reload;
mod syntax;

use std::fs;

use super::{
    command::{ENCRYPTION_KEY_VARIABLE, SQL_SOURCE_VARIABLE},
    draft::Draft,
    file::Variables,
    flags::Request,
    *,
};

fn no_variables(_: &str) -> Option<String> {
    None
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn run_with(args: &[String], variables: Variables<'_>) -> Result<Config, ConfigError> {
    read(args, variables).map(|command| match command {
        Command::Run(config) => *config,
        Command::Print(_) | Command::Valid { .. } | Command::Signal(_) | Command::Store { .. } => {
            panic!("{args:?} does not run")
        }
    })
}

fn run(line: &str) -> Config {
    run_with(&words(line), &no_variables).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refusal(line: &str) -> String {
    run_with(&words(line), &no_variables)
        .unwrap_err()
        .to_string()
}

/// A directory with one file, and the flags that name it.
struct WithFile {
    dir: tempfile::TempDir,
}

impl WithFile {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stan.conf"), text).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn run(&self, flags: &str) -> Result<Config, ConfigError> {
        let mut args = vec!["-sc".to_owned(), self.path("stan.conf")];
        args.extend(words(flags));
        run_with(&args, &no_variables)
    }

    /// The error without the directory.
    fn refusal(&self) -> String {
        let error = self.run("").unwrap_err().to_string();
        error.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = run("");
    assert_eq!(
        config.client.bind,
        Bind {
            host: "0.0.0.0".to_owned(),
            port: 4222
        }
    );
    assert_eq!(config.client.max_payload, 1_048_576);
    assert_eq!(config.client.ping_interval, Duration::from_secs(120));
    assert_eq!(config.streaming.cluster_id, "test-cluster");
    assert_eq!(config.streaming.hb_interval, Duration::from_secs(30));
    assert!(matches!(config.store, StoreKind::Memory));
    assert!(config.monitor.is_none() && config.metrics.is_none() && config.client.tls.is_none());
    assert!(config.warnings.is_empty());
}

#[test]
fn the_default_shown_for_a_flag_is_the_one_in_force() {
    for setting in
        setting::all().filter(|setting| !setting.flags.is_empty() && !setting.default.is_empty())
    {
        // These stand for "not set" in the draft.
        if ["a", "p", "metrics_addr", "tls", "streaming"].contains(&setting.flags[0]) {
            continue;
        }
        let args = vec![format!("-{}={}", setting.flags[0], setting.default)];
        let Request::Run(flags) = flags::read(&args).unwrap() else {
            panic!("{args:?}")
        };
        let mut draft = Draft::default();
        flags.apply(&mut draft);
        assert_eq!(draft, Draft::default(), "{args:?}");
    }
}

#[test]
fn names_are_not_given_twice() {
    let mut flags: Vec<_> = setting::all()
        .flat_map(|setting| setting.flags.iter())
        .collect();
    let mut keys: Vec<_> = setting::all()
        .flat_map(|setting| {
            setting
                .keys
                .iter()
                .map(|key| (format!("{:?}", setting.block), *key))
        })
        .collect();
    let (given_flags, given_keys) = (flags.len(), keys.len());
    flags.sort();
    flags.dedup();
    keys.sort();
    keys.dedup();
    assert_eq!((flags.len(), keys.len()), (given_flags, given_keys));
}

#[test]
fn flags_have_one_or_two_dashes_and_take_their_value_either_way() {
    let config = run(
        "-cluster_id labs --port=5222 -a 127.0.0.1 -m 8222 --metrics_port 7777 -max_bytes 2GB -mm=7 --hbi 1m30s -SDV=false -D --tls=false -st file -dir d",
    );
    assert_eq!(config.streaming.cluster_id, "labs");
    assert_eq!(
        config.client.bind,
        Bind {
            host: "127.0.0.1".to_owned(),
            port: 5222
        }
    );
    assert_eq!(
        config.monitor.unwrap(),
        Bind {
            host: "127.0.0.1".to_owned(),
            port: 8222
        }
    );
    assert_eq!(config.metrics.unwrap().port, 7777);
    assert_eq!(config.streaming.limits.general.max_bytes, 2 << 30);
    assert_eq!(config.streaming.limits.general.max_msgs, 7);
    assert_eq!(config.streaming.hb_interval, Duration::from_secs(90));
    assert!(config.log.debug && !config.log.trace && !config.log.stan_debug);
    assert!(matches!(config.store, StoreKind::File { dir } if dir == *"d"));
    assert_eq!(run("-p -1").client.bind.port, 0);
    let advertise = run("-client_advertise nats.example:4222")
        .client
        .advertise
        .unwrap();
    assert_eq!(
        (advertise.host.as_str(), advertise.port),
        ("nats.example", Some(4222))
    );
    let advertise = run("-client_advertise [fd00::a]:4222").client.advertise;
    assert_eq!(advertise.unwrap().host, "fd00::a");
}

#[test]
fn the_webhooks_arguments_are_understood() {
    let config = run(
        "-cluster_id c -p 4222 -m 8222 --metrics_port 7777 --tls --tlsverify --tlscert /t/server.pem --tlskey /t/server-key.pem --tlscacert /t/ca.pem",
    );
    let tls = config.client.tls.unwrap();
    assert!(tls.settings.verify);
    assert_eq!(
        tls.settings.pairs[0].key,
        PathBuf::from("/t/server-key.pem")
    );
    assert_eq!(tls.timeout, Duration::from_secs(2));
}

#[test]
fn what_is_not_understood_on_the_command_line_is_refused_by_name() {
    for (line, error) in [
        (
            "-clster_id x",
            "unknown flag -clster_id, did you mean \"cluster_id\"?",
        ),
        ("--zzzzzz", "unknown flag -zzzzzz"),
        ("-max_msgs", "flag needs an argument: -max_msgs"),
        (
            "-max_msgs many",
            "invalid value for flag -max_msgs: \"many\" is not an integer",
        ),
        (
            "-max_age 5",
            "invalid value for flag -max_age: time: invalid duration \"5\"",
        ),
        (
            "-SD=maybe",
            "invalid value for flag -SD: \"maybe\" is not a boolean",
        ),
        ("---p 1", "unknown flag --p, did you mean \"p\"?"),
        ("-=1", "bad flag syntax: a flag without a name"),
        (
            "-sql_source host=x password=y",
            "unrecognized command: \"...\"",
        ),
        ("-D true", "unrecognized command: \"true\""),
        ("start", "unrecognized command: \"start\""),
        (
            "store verify-all",
            "after `store` comes init (and perhaps a role), check or verify, and then flags",
        ),
        ("-- -D", "unrecognized command: \"-D\""),
        (
            "-user bob",
            "a user needs a password, and a password a user",
        ),
        (
            "-profile 6060",
            "flag -profile cannot be used: there is no profiling port",
        ),
        (
            "-clustered",
            "flag -clustered cannot be used: clustering is not supported; run a second broker on the same SQL store as standby",
        ),
        (
            "-nats_server n:4222",
            "nats_server: malformed url: n:4222: expected nats://host:port or tls://host:port",
        ),
        (
            "-max_subs -1",
            "max subscriptions limit cannot be negative (-1)",
        ),
        (
            "-store tape",
            "unsupported store type: tape: expected MEMORY, FILE or SQL",
        ),
        (
            "-store file",
            "for FILE stores, root directory must be specified (-dir)",
        ),
        (
            "-store sql -sql_driver mysql -sql_source x",
            "sql driver \"mysql\" is not supported yet: only postgres",
        ),
        (
            "-encrypt",
            "encryption key required: NATS_STREAMING_ENCRYPTION_KEY, or encryption_key in a file",
        ),
        (
            "-encryption_key k -encryption_cipher rot13",
            "encryption cipher not supported: \"rot13\": expected AES or CHACHA",
        ),
        ("-p 70000", "port 70000 is no port"),
        (
            "-cid a..b",
            "cluster_id \"a..b\" cannot be part of a subject",
        ),
        ("-cid a.*", "cluster_id \"a.*\" cannot be part of a subject"),
        (
            "--tls",
            "TLS for clients needs -tlscert (cert_file in the tls block)",
        ),
        (
            "--tlsverify --tlscert a --tlskey b",
            "TLS for clients needs -tlscacert (ca_file in the tls block)",
        ),
        (
            "-client_advertise x:y",
            "client_advertise \"x:y\" is not host or host:port",
        ),
        (
            "-client_advertise fd00::1",
            "client_advertise \"fd00::1\" is not host or host:port",
        ),
        ("-hbi 0s", "hb_interval must be longer than 0s"),
        (
            "-sc /does/not/exist",
            "cannot read configuration file /does/not/exist",
        ),
    ] {
        assert_eq!(refusal(line), error, "{line}");
    }
}

#[test]
fn unsupported_flags_that_ask_for_nothing_are_let_through() {
    let config = run(
        "-clustered=false -encrypt=false -nats_server= -max_inactivity 0s -io_batch_size 1024 -file_sync=false",
    );
    assert_eq!(
        config.warnings,
        ["flag -io_batch_size has no effect: batches form by themselves"]
    );
}

#[test]
fn help_names_every_effective_flag_and_the_check_is_its_own_command() {
    let Ok(Command::Print(help)) = read(&words("-D -help"), &no_variables) else {
        panic!("no help")
    };
    for name in [
        "-cluster_id, -cid <text>",
        "(default: test-cluster)",
        "-metrics_port",
        "-max_bytes, -mb <size>",
    ] {
        assert!(help.contains(name), "{name} in {help}");
    }
    assert!(!help.contains("-clustered"));
    assert!(
        matches!(read(&words("version"), &no_variables), Ok(Command::Print(text)) if text.starts_with("stanchion-broker version "))
    );
    let file = WithFile::new("port: 1");
    let args = ["-t".to_owned(), "-c".to_owned(), file.path("stan.conf")];
    let Ok(Command::Valid { text, .. }) = read(&args, &no_variables) else {
        panic!("-t")
    };
    assert!(text.contains("stan.conf is valid (sha256:"), "{text}");
}

#[test]
fn a_file_sets_both_servers_and_flags_win() {
    let file = WithFile::new(
        r#"
        listen: "127.0.0.1:4333"
        http: 8333
        max_payload: 2MB, ping_interval: "20s"
        write_deadline: 5
        SourcePassword: "s3cret"
        tls { cert_file: "/c", key_file: "/k", ca_file: "/ca", verify: true, timeout: 0.5 }
        streaming: {
            id: labs
            store: sql
            hbi: 5s
            sd: on
            sql { driver: "postgres", source: "postgres://u:p4ss@db/x?sslmode=disable", max_conns: 3 }
            store_limits {
                max_channels: 7, max_age: 5m
                channels {
                    "foo.>" { max_msgs: 10, max_subs: 0 }
                    foo.bar { max_bytes: 1kb }
                }
            }
        }
        unused: $SourcePassword
        "#,
    );
    let error = file.refusal();
    assert_eq!(
        error, "stan.conf:22:9: unknown field \"unused\"",
        "a key that only feeds a variable is no mistake"
    );

    let file = WithFile::new(
        &fs::read_to_string(file.path("stan.conf"))
            .unwrap()
            .replace("unused:", "server_name:"),
    );
    let config = file.run("-p 4444 -max_msgs 5 -cid other").unwrap();
    assert_eq!(
        config.client.bind,
        Bind {
            host: "127.0.0.1".to_owned(),
            port: 4444
        }
    );
    assert_eq!(config.client.server_name.as_deref(), Some("s3cret"));
    assert_eq!(
        config.monitor.as_ref().unwrap(),
        &Bind {
            host: "127.0.0.1".to_owned(),
            port: 8333
        }
    );
    assert_eq!(config.client.max_payload, 2 << 20);
    assert_eq!(config.client.ping_interval, Duration::from_secs(20));
    assert_eq!(config.client.write_deadline, Duration::from_secs(5));
    assert_eq!(
        config.client.tls.as_ref().unwrap().timeout,
        Duration::from_millis(500)
    );
    assert_eq!(config.streaming.cluster_id, "other");
    assert_eq!(config.streaming.hb_interval, Duration::from_secs(5));
    assert!(config.log.stan_debug);
    let limits = &config.streaming.limits;
    assert_eq!((limits.max_channels, limits.general.max_msgs), (7, 5));
    assert_eq!(
        limits.general.max_age_nanos, 300_000_000_000,
        "an unquoted 5m is five minutes"
    );
    assert_eq!(limits.channels[0].limits.max_msgs, 10);
    assert_eq!(
        limits.channels[0].limits.max_subs, 0,
        "0 is unlimited for a channel in a file"
    );
    assert_eq!(limits.channels[1].limits.max_msgs, 10);
    assert_eq!(limits.channels[1].limits.max_bytes, 1024);
    let StoreKind::Sql { source } = &config.store else {
        panic!("{:?}", config.store)
    };
    assert!(source.expose().contains("p4ss"));
    assert!(
        !format!("{config:?}").contains("p4ss"),
        "secrets stay out of debug output"
    );
}

#[test]
fn without_a_streaming_block_the_whole_file_counts_for_both() {
    let file = WithFile::new(
        "cluster_id = x; store = MEMORY\nport = 4999\nlimits { mc: 3 }\ninclude more.conf",
    );
    fs::write(file.path("more.conf"), "debug: yes").unwrap();
    let config = file.run("").unwrap();
    assert_eq!(config.streaming.cluster_id, "x");
    assert_eq!(config.client.bind.port, 4999);
    assert_eq!(config.streaming.limits.max_channels, 3);
    assert!(config.log.debug);
}

#[test]
fn of_two_files_each_is_for_its_own_part() {
    let file = WithFile::new("port: 1111\nstreaming { cluster_id: fromsc }");
    fs::write(
        file.path("nats.conf"),
        "port: 2222\nstreaming { cluster_id: fromc }\nhb_interval: 7s",
    )
    .unwrap();
    let config = file.run(&format!("-c {}", file.path("nats.conf"))).unwrap();
    assert_eq!(config.client.bind.port, 2222);
    assert_eq!(config.streaming.cluster_id, "fromsc");
    assert_eq!(config.streaming.hb_interval, Duration::from_secs(30));
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
}

#[test]
fn the_sql_source_can_come_from_the_environment() {
    let variables = |name: &str| (name == SQL_SOURCE_VARIABLE).then(|| "host=env".to_owned());
    let source_of = |args: &[String]| match run_with(args, &variables).unwrap().store {
        StoreKind::Sql { source, .. } => source.expose().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(source_of(&words("-store SQL")), "host=env");
    assert_eq!(
        source_of(&words("-store SQL -sql_source host=flag")),
        "host=flag"
    );
    let file = WithFile::new("streaming { store: SQL, sql { source: \"host=file\" } }");
    assert_eq!(
        source_of(&["-sc".to_owned(), file.path("stan.conf")]),
        "host=env"
    );
}

#[test]
fn the_encryption_key_of_the_environment_wins_but_encrypts_nothing_by_itself() {
    let variables = |name: &str| (name == ENCRYPTION_KEY_VARIABLE).then(|| "env".to_owned());
    let encryption = |args: &str| run_with(&words(args), &variables).unwrap().encryption;
    assert_eq!(encryption(""), None);
    let expected = |cipher| {
        let key = Secret::new("env".to_owned());
        Some(Encryption { cipher, key })
    };
    assert_eq!(encryption("-encrypt"), expected(Cipher::default()));
    assert_eq!(
        encryption("-encryption_key flag -encryption_cipher chacha"),
        expected(Cipher::ChaCha20Poly1305)
    );
    let file = WithFile::new("streaming { encryption_key: file, encryption_cipher: aes }");
    let config = file.run("").unwrap();
    assert_eq!(
        config.encryption,
        Some(Encryption {
            cipher: Cipher::Aes256Gcm,
            key: Secret::new("file".to_owned()),
        })
    );
    assert!(!format!("{config:?}").contains("\"file\""));
}

#[test]
fn a_partitioned_server_needs_channels_that_are_some() {
    let listed = WithFile::new("streaming { partitioning: true, limits { channels { foo {} } } }");
    assert!(listed.run("").unwrap().streaming.partitioning);
    let none = WithFile::new("streaming { partitioning: true }");
    let refused = none.refusal();
    assert!(
        refused.ends_with("stan: no configured channel"),
        "{refused}"
    );
    let bad =
        WithFile::new("streaming { partitioning: true, limits { channels { foo..bar {} } } }");
    assert!(bad.refusal().contains("foo..bar"));
}

#[test]
fn mistakes_in_a_file_are_reported_together_with_their_places() {
    let file = WithFile::new(
        "prot: 1\nstreaming {\n  cluster_idd: x\n  hb_interval: 5\n  hb_fail_count: many\n  store_limits { channels { a..b {}, c { max_msg: 1 } } }\n  cluster { }\n  max_age: 1s\n}\nserver_name: \"a b\"\nport: x\nauthorization { usr: a }\nmax_payload: 9GB",
    );
    assert_eq!(
        file.refusal(),
        "\
stan.conf:1:1: unknown field \"prot\", did you mean \"port\"?
stan.conf:11:7: parameter \"port\" value is expected to be int64, got string
stan.conf:12:17: unknown field \"usr\", did you mean \"user\"?
stan.conf:3:3: unknown field \"cluster_idd\", did you mean \"cluster_id\"?
stan.conf:4:16: parameter \"hb_interval\" value is expected to be string (a duration such as \"5m\"), got int64
stan.conf:5:18: parameter \"hb_fail_count\" value is expected to be int64, got string
stan.conf:6:29: invalid channel name \"a..b\"
stan.conf:6:42: unknown field \"max_msg\", did you mean \"max_msgs\"?
stan.conf:7:11: cluster cannot be used: clustering is not supported; run a second broker on the same SQL store as standby
stan.conf:8:3: unknown field \"max_age\"
stan.conf:10:14: server name cannot contain spaces
stan.conf:13:14: max_payload value is too big"
    );
    assert_eq!(
        WithFile::new("streaming { a b c }").refusal(),
        "stan.conf:1:17: expected a newline, ',' or ';' after the value"
    );
    assert_eq!(
        WithFile::new("streaming: 5").refusal(),
        "stan.conf:1:12: expected streaming to be a map/struct, got int64"
    );
    assert_eq!(
        WithFile::new("streaming {}\nstore: sql").refusal(),
        "stan.conf:2:1: unknown field \"store\"; it belongs into the streaming block"
    );
}

#[test]
fn known_keys_without_effect_are_warned_about_once_each() {
    let file = WithFile::new(
        "disable_sublist_cache: true\nstore_dir: /x\nping_interval: 7\nstreaming { file_options { sync: true }, ft_group: x, sql { no_caching: true } }",
    );
    let warnings = file.run("").unwrap().warnings;
    assert_eq!(warnings.len(), 6, "{warnings:#?}");
    assert!(warnings[0].ends_with("stan.conf:1:1: disable_sublist_cache has no effect: subjects are matched without a cache that could be switched off"));
    assert!(
        warnings[2].ends_with("stan.conf:3:1: ping_interval should be converted to a duration")
    );
}

#[test]
fn too_many_channel_entries_are_refused() {
    let file = WithFile::new(
        "streaming { limits { max_channels: 1, channels { a {}, b {}, \"c.*\" {} } } }",
    );
    assert_eq!(
        file.refusal(),
        "too many channels defined (2). The max channels limit is set to 1"
    );
}

#[test]
fn log_levels_of_both_servers_are_apart() {
    let filter = run("-D -SV").log.filter();
    assert!(
        filter.contains("broker_server=debug") && filter.contains("broker_core::streaming=trace"),
        "{filter}"
    );
}
