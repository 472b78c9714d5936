use tokio_postgres::config::Host;

use super::*;

fn parse(text: &str) -> Result<Source, SourceError> {
    Source::parse(text, &BTreeMap::new())
}

#[test]
fn both_notations_give_the_same() {
    for text in [
        "postgres://stan:p%40ss@db:5433/state?sslmode=disable&search_path=x&readTimeout=5s",
        "host=db port=5433 user=stan password='p@ss' dbname=state sslmode=disable search_path=x readtimeout=5s",
    ] {
        let source = parse(text).unwrap();
        assert_eq!(source.config.get_hosts(), [Host::Tcp("db".to_owned())]);
        assert_eq!(source.config.get_ports(), [5433]);
        assert_eq!(source.config.get_user(), Some("stan"));
        assert_eq!(source.config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(source.config.get_dbname(), Some("state"));
        assert_eq!(source.tls.mode, SslMode::Disable);
        assert_eq!(
            source.parameters,
            [("search_path".to_owned(), "x".to_owned())]
        );
        assert_eq!(source.answer_timeout, Some(Duration::from_secs(5)));
    }
}

#[test]
fn tls_is_required_unless_the_source_says_otherwise() {
    let mode = |text| parse(text).unwrap().tls.mode;
    assert_eq!(mode("host=db"), SslMode::Require);
    assert_eq!(mode("host=db sslmode=verify-full"), SslMode::VerifyFull);
    assert!(parse("host=db sslmode=prefer").is_err());
}

#[test]
fn the_environment_counts_where_the_source_is_silent() {
    let environment = BTreeMap::from([
        ("PGHOST".to_owned(), "fallback".to_owned()),
        ("PGUSER".to_owned(), "somebody".to_owned()),
    ]);
    let source = Source::parse("host=db sslmode=disable", &environment).unwrap();
    assert_eq!(source.config.get_hosts(), [Host::Tcp("db".to_owned())]);
    assert_eq!(source.config.get_user(), Some("somebody"));
}

#[test]
fn several_hosts_and_a_unix_socket() {
    let source = parse("postgres://a:1,[::1]:2/x?sslmode=disable").unwrap();
    assert_eq!(
        source.config.get_hosts(),
        [Host::Tcp("a".to_owned()), Host::Tcp("::1".to_owned())]
    );
    assert_eq!(source.config.get_ports(), [1, 2]);
    let source = parse("host=/run/postgresql dbname=x").unwrap();
    assert_eq!(source.config.get_ssl_mode(), Negotiation::Disable);
}

#[test]
fn nothing_shown_holds_the_password() {
    let secret = "sEcr3t";
    for text in [
        format!("postgres://u:{secret}@db:x/d"),
        format!("postgres://u:{secret}%zz@db/d"),
        format!("postgres://u:a/{secret}@db/d"),
        format!("host=db password='{secret}"),
        format!("host=db password=a {secret}"),
        format!("host=db port={secret}"),
        format!("host=db connect_timeout=x password={secret}"),
        format!("host=db readTimeout=x password={secret}"),
        format!("host=db sslmode={secret}"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
    let source = parse(&format!("host=db password={secret} sslmode=disable")).unwrap();
    assert!(!format!("{source:?}").contains(secret));
}

#[test]
fn missing_certificate_file_is_found_at_once() {
    let error = parse("host=db sslrootcert=/nonexistent/ca.pem").unwrap_err();
    assert!(matches!(error, SourceError::Tls(_)));
}

#[test]
fn a_password_file_counts_at_every_connection_and_only_without_a_password() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let path = file.path().display();
    let source = parse(&format!("host=db user=me sslmode=disable passfile={path}")).unwrap();
    for password in ["first", "second"] {
        fs::write(file.path(), format!("db:5432:me:me:{password}")).unwrap();
        assert_eq!(source.login().get_password(), Some(password.as_bytes()));
    }
    let source = parse(&format!(
        "host=db user=me password=own sslmode=disable passfile={path}"
    ));
    assert_eq!(source.unwrap().login().get_password(), Some(&b"own"[..]));
}
