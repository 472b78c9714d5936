//! Meshes that form, break and heal.

use super::super::*;
use super::world::*;

const SEEDS: std::ops::Range<u64> = 1..60;
/// Longer than any pause between attempts.
const SETTLING: Duration = Duration::from_secs(90);

/// Everybody agrees, and nobody dials any more.
fn expect_settled(world: &mut World, seed: u64) {
    world.run(SETTLING);
    world.expect_full_mesh(seed);
    assert!(
        world.now - world.last_dial > Duration::from_secs(10),
        "seed {seed}: still dialling"
    );
}

#[test]
fn a_full_mesh_grows_from_one_seed_within_seconds() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for _ in 0..6 {
            world.add(Some("C"), vec![url_of(0)]);
        }
        world.run(Duration::from_secs(10));
        world.expect_full_mesh(seed);
        expect_settled(&mut world, seed);
    }
}

#[test]
fn a_full_mesh_grows_from_a_chain_whatever_the_order_of_starts() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for node in 0..6usize {
            world.add(Some("C"), vec![url_of(node.saturating_sub(1))]);
            let pause = world.below(500);
            world.run(Duration::from_millis(pause));
        }
        world.run(Duration::from_secs(10));
        world.expect_full_mesh(seed);
        expect_settled(&mut world, seed);
    }
}

#[test]
fn servers_that_all_dial_each_other_settle() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for _ in 0..5 {
            world.add(Some("C"), (0..5).map(url_of).collect());
        }
        expect_settled(&mut world, seed);
    }
}

/// Not enough alone: two pairs may find each other and be content.
#[test]
fn a_name_that_leads_to_ourselves_too_does_no_harm() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for _ in 0..4 {
            world.add(Some("C"), vec![url(EVERYBODY), url_of(0)]);
        }
        expect_settled(&mut world, seed);
    }
}

#[test]
fn made_up_names_converge_and_give_way_to_a_configured_one() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for node in 0..5usize {
            world.add(None, vec![url_of(node.saturating_sub(1)), url_of(0)]);
        }
        expect_settled(&mut world, seed);
        world.add(Some("A"), vec![url_of(2)]);
        expect_settled(&mut world, seed);
        let mesh = world.nodes[4].mesh.as_ref().unwrap();
        assert_eq!(
            (mesh.cluster_name(), mesh.is_cluster_name_dynamic()),
            ("A", false)
        );
    }
}

#[test]
fn two_configured_names_never_mix() {
    let mut world = World::new(1);
    world.add(Some("A"), vec![]);
    world.add(Some("B"), vec![url_of(0)]);
    world.run(SETTLING);
    for node in &world.nodes {
        assert_eq!(node.mesh.as_ref().unwrap().established().count(), 0);
    }
}

/// Nobody has both in its configuration, and nobody hears of either again.
#[test]
fn a_cut_between_two_servers_that_only_heard_of_each_other_heals() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for _ in 0..4 {
            world.add(Some("C"), vec![url_of(0)]);
        }
        expect_settled(&mut world, seed);
        world.cut(2, 3);
        world.run(Duration::from_secs(60));
        let mesh = world.nodes[2].mesh.as_ref().unwrap();
        assert_eq!(mesh.established().count(), 2, "seed {seed}: the cut");
        world.heal();
        expect_settled(&mut world, seed);
    }
}

#[test]
fn what_was_cut_or_killed_comes_back() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for _ in 0..5 {
            world.add(Some("C"), vec![url_of(0), url_of(1)]);
        }
        for _ in 0..12 {
            let (one, other) = (world.below(5) as usize, world.below(5) as usize);
            match world.below(3) {
                0 if one != other => world.cut(one, other),
                1 => world.heal(),
                _ if world.nodes[one].mesh.is_some() => world.kill(one),
                _ => world.start(one),
            }
            let pause = world.below(3000);
            world.run(Duration::from_millis(pause));
        }
        world.heal();
        for node in 0..5 {
            if world.nodes[node].mesh.is_none() {
                world.start(node);
            }
        }
        expect_settled(&mut world, seed);
    }
}

#[test]
fn a_seed_fixes_everything() {
    let trace = |seed| {
        let mut world = World::new(seed);
        for _ in 0..4 {
            world.add(None, (0..4).map(url_of).collect());
        }
        world.run(SETTLING);
        world.trace
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
