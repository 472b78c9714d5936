//! Claims about every history that is made.

use super::*;
use crate::profiles::PROFILES;

#[test]
fn a_number_always_makes_the_same_history() {
    for profile in &PROFILES {
        let text = |number| history(profile, number).to_string();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }
}

#[test]
fn every_history_of_a_profile_with_files_is_restarted_twice() {
    let restarted = PROFILES.iter().find(|profile| profile.files).unwrap();
    for number in 0..50 {
        assert_eq!(history(restarted, number).segments().len(), 3);
    }
}

#[test]
fn channels_are_named_by_their_place() {
    assert_eq!(
        [FEW, BYTES, AGE, REST].map(|place| CHANNELS[place]),
        ["few", "bytes", "age", "rest"]
    );
}
