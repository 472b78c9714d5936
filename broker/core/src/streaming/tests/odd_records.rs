//! What a new start makes of records that no engine of ours would leave: of clients that are gone, twice the same,
//! with other names, or none.

use broker_proto::streaming::SubState;

use super::{harness::World, model_store::ModelStore};
use crate::{
    durable::Recovered,
    streaming::{Engine, EngineConfig, StartError},
};

#[test]
fn subscriptions_of_unknown_clients_are_dropped_and_durables_go_offline() {
    let mut world = World::new();
    world.connect("gone");
    world.subscribe_with("gone", "foo", |_| {});
    world.subscribe_with("gone", "foo", |request| request.q_group = "q".into());
    world.subscribe_with("gone", "foo", |request| request.durable_name = "d".into());
    world.subscribe_with("gone", "foo", |request| {
        (request.q_group, request.durable_name) = ("q".into(), "d".into());
    });
    world.store.forget_client("gone");
    world.crash();
    assert_eq!(world.engine.take_notices().len(), 1);
    assert_eq!(world.store.subs("foo").len(), 1);
    assert!(
        world
            .engine
            .subscriptions("foo")
            .all(|sub| sub.is_offline && sub.durable_name == "d")
    );
    world.crash();
    assert!(world.engine.take_notices().is_empty());
}

#[test]
fn of_two_shadows_the_one_with_the_higher_position_wins() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 9);
    let shadow = |id, last_sent| SubState {
        id,
        q_group: "d:q".into(),
        inbox: "in".into(),
        ack_inbox: format!("ack.{id}"),
        max_in_flight: 10,
        ack_wait_in_secs: 30,
        last_sent,
        is_durable: true,
        ..SubState::default()
    };
    world.store.plant("foo", shadow(4, 7), &[7]);
    world.store.plant("foo", shadow(5, 3), &[]);
    world.store.plant("foo", shadow(6, 8), &[8]);
    world.crash();
    assert_eq!(world.engine.take_notices().len(), 2);
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.q_group, request.durable_name) = ("q".into(), "d".into());
    });
    assert_eq!(world.sequences(&sub), [-8, 9]);
    assert_eq!(world.store.subs("foo").len(), 1);
}

#[test]
fn an_unusual_ack_inbox_is_honoured() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 2);
    let state = SubState {
        id: 9,
        client_id: "me".into(),
        inbox: "in".into(),
        ack_inbox: "_STAN.ack.old.7".into(),
        max_in_flight: 1,
        ack_wait_in_secs: 1,
        durable_name: "d".into(),
        last_sent: 1,
        ..SubState::default()
    };
    world.store.plant("foo", state, &[1]);
    world.advance_secs(5);
    world.crash();
    let sub = super::harness::Sub {
        client: "me".into(),
        channel: "foo".into(),
        inbox: "in".into(),
        ack_inbox: "_STAN.ack.old.7".into(),
    };
    assert_eq!(world.sequences(&sub), [-1]);
    world.ack(&sub, 1);
    assert_eq!(world.sequences(&sub), [2]);
    assert_eq!(world.sub_close(&sub), "");
    assert!(
        world.store.subs("foo")[0].0.is_closed,
        "durable by its name alone"
    );
}

#[test]
fn persisted_subjects_win_and_another_cluster_id_is_refused() {
    let mut world = World::new();
    world.config.discover_prefix = "elsewhere".into();
    world.restart();
    world.connect("me");
    let recovered = world.store.recover();
    let config = EngineConfig {
        cluster_id: "other".into(),
        ..EngineConfig::default()
    };
    let refused = Engine::new(config, recovered, 1, 1, world.clock.now()).unwrap_err();
    let expected = "cluster ID \"other\" does not match recovered value of \"test-cluster\"";
    assert_eq!(refused.to_string(), expected);
    for cluster_id in ["", "a b"] {
        let config = EngineConfig {
            cluster_id: cluster_id.into(),
            ..EngineConfig::default()
        };
        let refused = Engine::new(config, Recovered::default(), 1, 1, world.clock.now());
        assert_eq!(
            refused.unwrap_err(),
            StartError::InvalidClusterId(cluster_id.into())
        );
    }
}

#[test]
fn a_store_without_server_record_is_served_with_a_notice() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 1);
    world.store.forget_server_info();
    world.crash();
    assert_eq!(world.engine.take_notices().len(), 1);
    world.publish("me", "foo", "x");
    assert_eq!(world.store.messages("foo").len(), 2);
    let store: &ModelStore = &world.store;
    assert!(store.recover().server_info.is_some());
}
