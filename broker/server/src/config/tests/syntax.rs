//! Every row of the file syntax, through to what the configuration says.

use super::*;

/// What `port` and the maximum sizes are after reading a file.
fn port_of(text: &str) -> u16 {
    let file = WithFile::new(text);
    file.run("")
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .client
        .bind
        .port
}

#[test]
fn keys_and_values_may_be_written_in_any_of_the_ways() {
    for text in [
        "port: 5000",
        "port = 5000",
        "port 5000",
        "port=5000",
        "\"port\": 5000",
        "'port' = 5000",
        "PORT: 5000",
        "port: 1, port: 5000",
        "port: 1; port: 5000",
        "port: 1\nPort: 5000",
        "debug: true; port: 5000",
        "# port: 1\nport: 5000 # port: 2",
        "// port: 1\nport: 5000 // port: 2",
        "port: +5000",
        "port: 5k",
        "cluster { name: x\n }\nport: 5000",
        "cluster: { name: x }, port: 5000",
        "cluster = {\n  name = x }\nport: 5000",
        "server_tags: [a, b\n c]\nport: 5000",
        "mine: 5000\nport: $mine",
        "{\"port\": 5000, \"server_name\": \"x\", \"max_payload\": 1024}",
        "listen: 5000",
        "listen: 127.0.0.1:5000",
        "listen: \":5000\"",
        "\u{feff}port: 5000\r\n",
    ] {
        assert_eq!(port_of(text), 5000, "{text}");
    }
}

#[test]
fn strings_keep_what_their_quotes_say() {
    for (written, meant) in [
        ("bare", "bare"),
        ("'si\\ngle'", "si\\ngle"),
        ("\"dou\\x62le\\\\\"", "double\\"),
        ("ba\\x72e", "bare"),
        ("2016-05-04T18:53:41", "2016-05-04T18:53:41"),
        ("127.0.0.1:4222", "127.0.0.1:4222"),
        ("/a/path.conf", "/a/path.conf"),
        ("$2a$11$bcrypt", "$2a$11$bcrypt"),
        ("$2b$11$bcrypt", "$2b$11$bcrypt"),
        ("$2x$11$bcrypt", "$2x$11$bcrypt"),
        ("$2y$11$bcrypt", "$2y$11$bcrypt"),
    ] {
        let config = WithFile::new(&format!("server_name: {written}"))
            .run("")
            .unwrap();
        assert_eq!(
            config.client.server_name.as_deref(),
            Some(meant),
            "{written}"
        );
    }
    let file = WithFile::new("server_metadata { note: (\nfirst\n  second\n)\n }");
    let metadata = file.run("").unwrap().client.server_metadata;
    assert!(metadata["note"].contains("first\n  second"), "{metadata:?}");
}

#[test]
fn truths_sizes_and_durations_have_their_spellings() {
    for (written, meant) in [
        ("true", true),
        ("YES", true),
        ("On", true),
        ("false", false),
        ("no", false),
        ("OFF", false),
    ] {
        let config = WithFile::new(&format!("debug: {written}")).run("").unwrap();
        assert_eq!(config.log.debug, meant, "{written}");
    }
    for (written, meant) in [
        ("7", 7),
        ("3k", 3_000),
        ("3kb", 3_072),
        ("3Ki", 3_072),
        ("3KiB", 3_072),
        ("2m", 2_000_000),
        ("2MB", 2 << 20),
        ("2mib", 2 << 20),
    ] {
        let config = WithFile::new(&format!("max_payload: {written}"))
            .run("")
            .unwrap();
        assert_eq!(config.client.max_payload, meant, "{written}");
    }
    for (written, millis) in [
        ("\"2m\"", 120_000),
        ("2m", 120_000),
        ("\"1h30m\"", 5_400_000),
        ("\"500ms\"", 500),
        ("45", 45_000),
        ("1.5", 1_500),
    ] {
        let config = WithFile::new(&format!("write_deadline: {written}"))
            .run("")
            .unwrap();
        assert_eq!(
            config.client.write_deadline,
            Duration::from_millis(millis),
            "{written}"
        );
    }
}

#[test]
fn variables_and_includes_come_from_where_they_should() {
    let file = WithFile::new(
        "name: outer\ncluster { name: inner, port: -1 }\nserver_name: $name\ninclude \"sub/more.conf\"\nclient_advertise: $FROM_ENV",
    );
    fs::create_dir(file.path("sub")).unwrap();
    fs::write(file.path("sub/more.conf"), "include ./most.conf").unwrap();
    fs::write(file.path("sub/most.conf"), "port: 5001").unwrap();
    let variables = |name: &str| (name == "FROM_ENV").then(|| "host.example:1".to_owned());
    let args = ["-c".to_owned(), file.path("stan.conf")];
    let config = run_with(&args, &variables).unwrap();
    assert_eq!(config.client.server_name.as_deref(), Some("outer"));
    assert_eq!(config.client.bind.port, 5001);
    assert_eq!(config.client.advertise.unwrap().port, Some(1));
    assert_eq!(
        WithFile::new("port: $nowhere").refusal(),
        "stan.conf:1:7: variable reference for 'nowhere' on line 1 can not be found"
    );
    assert!(
        WithFile::new("include none.conf")
            .refusal()
            .starts_with("stan.conf:1:9: include of")
    );
}

#[test]
fn text_without_syntax_is_refused_where_it_is() {
    for (text, at) in [
        ("port: 1 2", "stan.conf:1:9: "),
        ("cluster { name: x } port: 1", "stan.conf:1:21: "),
        ("cluster { name: x", "stan.conf:1:9: "),
        ("port:", "stan.conf:1:1: "),
        ("server_name: \"x", "stan.conf:1:14: "),
        ("server_tags: [a", "stan.conf:1:14: "),
    ] {
        let refusal = WithFile::new(text).refusal();
        assert!(refusal.starts_with(at), "{text}: {refusal}");
    }
}
