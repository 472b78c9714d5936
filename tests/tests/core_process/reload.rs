//! Reload of the configuration, as far as the process is concerned.

use std::{fs, path::Path};

use tests::{
    patience, ports, probe,
    stan::{Client, Options},
    streaming_server::CLUSTER_ID,
};

use crate::server::{BOTH, PATIENCE, Program, Server, client, flag};

/// A reload of changed text, which `result` in the log comes of.
async fn reload(server: &mut Server, text: &str, result: &str) {
    fs::write(server.path("config"), text).unwrap();
    server.signalled(&format!("reload={}", server.pid()));
    server.logs(result).await;
}

#[tokio::test]
async fn a_reload_takes_effect_or_leaves_everything_as_it_was() {
    for program in BOTH {
        let mut server = Server::start(program, |dir| {
            let config = dir.join("config");
            let text = format!(
                "server_name: one\npid_file: \"{}\"\n",
                dir.join("a").display()
            );
            fs::write(&config, text).unwrap();
            flag("--config", &config).to_vec()
        })
        .await;
        let mut client = client(&server, 1).await;
        let (a, b) = (server.path("a"), server.path("b"));
        let good = format!(
            "server_name: one\npid_file: \"{}\"\ndebug: true\n",
            b.display()
        );
        let pid = server.pid().to_string();

        reload(
            &mut server,
            &good,
            "[INF] Reloaded server configuration (sha256:",
        )
        .await;
        let log = server.log();
        assert!(log.contains("[INF] Trapped \"hangup\" signal\n"), "{log}");
        assert!(log.contains("[INF] Reloaded: debug = true\n"), "{log}");
        assert_eq!(fs::read_to_string(&b).unwrap(), pid, "{program:?}");
        // The reference leaves the old one behind.
        assert_eq!(a.exists(), program == Program::Reference);

        let broken = good.replace("debug: true", "debug: {");
        reload(
            &mut server,
            &broken,
            "[ERR] Failed to reload server configuration: ",
        )
        .await;
        let fixed = good.replace("server_name: one", "server_name: two");
        let reason = "[ERR] Failed to reload server configuration: config reload not supported \
                      for ServerName: old=one, new=two\n";
        reload(&mut server, &fixed, reason).await;
        assert!(b.exists(), "{program:?}");
        client.answers().await.unwrap();
    }
}

#[tokio::test]
async fn a_reload_moves_the_log_and_changes_its_level() {
    for program in BOTH {
        let config = |log: &Path, more: &str| format!("logfile: \"{}\"\n{more}", log.display());
        let mut server = Server::start(program, |dir| {
            let path = dir.join("config");
            fs::write(&path, config(&dir.join("log"), "")).unwrap();
            flag("--config", &path).to_vec()
        })
        .await;
        let pid = server.pid();
        let (first, second) = (server.path("log"), server.path("second"));
        fs::write(server.path("config"), config(&second, "logtime: false\n")).unwrap();
        server.signalled(&format!("reload={pid}"));
        let moved = patience::until("lines in the other file", PATIENCE, async || {
            let text = fs::read_to_string(&second)?;
            anyhow::ensure!(text.contains("Reloaded server configuration"), "{text}");
            Ok(())
        });
        moved.await.unwrap();
        let before = fs::read_to_string(&first).unwrap();
        server.process.stop(PATIENCE).await.unwrap();
        assert_eq!(fs::read_to_string(&first).unwrap(), before);
        let text = fs::read_to_string(&second).unwrap();
        let start = format!("[{pid}] [INF] ");
        assert!(text.contains("Server Exiting.."), "{program:?}: {text}");
        assert!(
            text.lines().all(|line| line.starts_with(&start)),
            "{program:?}: {text}"
        );
    }
}

#[tokio::test]
async fn a_reload_lowers_limits_of_channels_and_they_hold_at_once() {
    let limited =
        |messages: u32| format!("streaming {{ store_limits {{ max_msgs: {messages} }} }}\n");
    let monitor = ports::free();
    let mut broker = Server::start(Program::Broker, |dir| {
        let config = dir.join("config");
        fs::write(&config, limited(10)).unwrap();
        let [name, value] = flag("-c", &config);
        vec![name, value, "-m".to_owned(), monitor.to_string()]
    })
    .await;
    broker.logs("Streaming Server is ready").await;
    let url = format!("nats://127.0.0.1:{}", broker.port);
    let client = Client::connect(Options::new(&url, CLUSTER_ID, "me"))
        .await
        .unwrap();
    for number in 0..12 {
        client.publish("foo", number.to_string()).await.unwrap();
    }
    let holds = async |messages: u64| {
        let what = format!("{messages} messages are left");
        let seen = patience::until(&what, PATIENCE, async || {
            let page = probe::get(monitor, "/streaming/channelsz?channel=foo").await?;
            let page: serde_json::Value = serde_json::from_str(&page.body)?;
            anyhow::ensure!(page["msgs"] == messages, "{page}");
            Ok(())
        });
        seen.await.unwrap();
    };
    holds(10).await;
    reload(&mut broker, &limited(3), "Reloaded: store_limits").await;
    holds(3).await;
    client.publish("foo", "one more").await.unwrap();
    holds(3).await;
}
