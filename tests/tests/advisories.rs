//! The advisories of the NATS project, and the tests that show that their causes are not here.
//!
//! Each row names what went wrong there and where it is tried here. An advisory that cannot touch this
//! project says why.

use std::{collections::BTreeSet, fs};

use tests::programs;

/// Advisories with one cause.
struct Row {
    /// As the project numbers them, or by CVE.
    advisories: &'static [&'static str],
    answer: Answer,
}

enum Answer {
    /// Files from the root of the tree, and test functions in them.
    Tests(&'static [(&'static str, &'static str)]),
    /// Why the cause cannot be here.
    OutOfReach(&'static str),
}
use Answer::{OutOfReach, Tests};

/// All that there are, so that none is left out by accident.
const ALL: [&str; 45] = [
    "2026-16",
    "2026-17",
    "2026-18",
    "2026-19",
    "2026-20",
    "2026-21",
    "2026-22",
    "2026-23",
    "2026-24",
    "2026-25",
    "2026-26",
    "2026-27",
    "2026-28",
    "CVE-2019-13126",
    "CVE-2020-26149",
    "CVE-2020-26521",
    "CVE-2020-26892",
    "CVE-2020-28466",
    "CVE-2021-3127",
    "CVE-2021-32026",
    "CVE-2022-24450",
    "CVE-2022-26652",
    "CVE-2022-28357",
    "CVE-2022-29946",
    "CVE-2022-42708",
    "CVE-2022-42709",
    "CVE-2023-46129",
    "CVE-2023-47090",
    "CVE-2025-30215",
    "CVE-2025-68121",
    "CVE-2026-27571",
    "CVE-2026-27889",
    "CVE-2026-29785",
    "CVE-2026-33215",
    "CVE-2026-33216",
    "CVE-2026-33217",
    "CVE-2026-33218",
    "CVE-2026-33219",
    "CVE-2026-33222",
    "CVE-2026-33223",
    "CVE-2026-33246",
    "CVE-2026-33247",
    "CVE-2026-33248",
    "CVE-2026-33249",
    "secnote-2023-01",
];

const TABLE: &[Row] = &[
    // The first operation is not CONNECT and takes a way around the restrictions of users.
    Row {
        advisories: &["2026-24", "2026-16"],
        answer: Tests(&[
            (
                "broker/server/src/wire/auth.rs",
                "nothing_but_connect_may_come_first_however_it_is_cut",
            ),
            (
                "broker/server/src/wire/auth.rs",
                "a_verb_that_only_begins_like_connect_is_unknown",
            ),
            (
                "broker/server/src/wire/mapping.rs",
                "neither_a_name_in_connect_nor_another_certificate_helps",
            ),
        ]),
    },
    // A deny entry is missed where wildcards overlap, or by members of queue groups.
    Row {
        advisories: &["2026-17", "CVE-2022-29946", "2026-18"],
        answer: Tests(&[
            (
                "broker/core/src/auth/permissions/tests.rs",
                "every_delivery_is_allowed_and_not_denied",
            ),
            (
                "broker/core/src/auth/filters/tests.rs",
                "every_pair_of_filters_is_related_as_the_subjects_they_match",
            ),
            (
                "broker/server/src/wire/permissions.rs",
                "what_overlaps_a_deny_entry_is_withheld_from_plain_subscriptions_and_groups",
            ),
            (
                "broker/server/src/wire/permissions.rs",
                "a_member_that_may_not_have_a_message_leaves_it_to_the_others",
            ),
            (
                "broker/server/src/wire/reload.rs",
                "a_deny_entry_that_is_new_is_heeded_at_the_next_delivery",
            ),
        ]),
    },
    // Replay does not ask for the right that live delivery asks for.
    Row {
        advisories: &["2026-26"],
        answer: Tests(&[(
            "tests/tests/streaming_rights.rs",
            "what_may_not_be_received_live_is_not_replayed_either",
        )]),
    },
    // Control characters reach another stream of protocol text.
    Row {
        advisories: &["2026-22"],
        answer: Tests(&[
            (
                "broker/server/src/wire/arguments.rs",
                "control_characters_pass_from_client_to_client_and_end_no_line",
            ),
            (
                "broker/proto/src/route/tests.rs",
                "what_is_written_is_what_is_read",
            ),
            (
                "broker/proto/src/route/tests.rs",
                "an_error_text_stays_one_line",
            ),
            (
                "broker/core/src/cluster/interest.rs",
                "an_account_that_cannot_be_written_is_kept_to_ourselves",
            ),
            (
                "broker/core/src/streaming/names.rs",
                "client_ids_are_ascii_words",
            ),
            (
                "broker/core/src/streaming/names.rs",
                "channel_names_are_literal_subjects_without_slashes",
            ),
            (
                "tests/tests/core_process/secrets.rs",
                "a_client_cannot_write_lines_into_the_log",
            ),
            (
                "deploy/runtime/src/logging/escape.rs",
                "nothing_dangerous_comes_through",
            ),
        ]),
    },
    // Integers overflow: sizes, maxima, paging.
    Row {
        advisories: &[
            "2026-28",
            "CVE-2022-42708",
            "CVE-2026-27889",
            "CVE-2019-13126",
        ],
        answer: Tests(&[
            (
                "broker/server/src/wire/arguments.rs",
                "numbers_that_do_not_fit_end_the_connection_and_nothing_else",
            ),
            (
                "broker/server/src/wire/arguments.rs",
                "a_maximum_of_any_size_is_a_maximum_or_means_now",
            ),
            (
                "broker/server/src/monitor/parameters.rs",
                "offsets_and_limits_may_have_any_value",
            ),
            (
                "broker/core/src/streaming/tests/subscribe.rs",
                "start_sequences_out_of_range_are_moved_into_it",
            ),
            (
                "broker/core/src/streaming/tests/subscribe.rs",
                "checks_come_in_their_order_with_their_texts",
            ),
            (
                "broker/proto/src/parser/tests.rs",
                "arbitrary_bytes_never_panic",
            ),
        ]),
    },
    // Memory is held for those who have not shown who they are.
    Row {
        advisories: &["2026-25", "CVE-2026-33219", "CVE-2026-27571"],
        answer: Tests(&[
            (
                "tests/tests/handshake_prefixes.rs",
                "clients_that_stop_before_connect_ends_cost_the_broker_little",
            ),
            (
                "tests/tests/handshake_prefixes.rs",
                "clients_that_stop_within_client_hello_cost_the_broker_little",
            ),
            (
                "broker/server/src/wire/bounds.rs",
                "a_line_without_end_takes_no_more_memory_than_its_limit",
            ),
            (
                "broker/server/src/wire/closing.rs",
                "thousands_of_failed_beginnings_leave_nothing_behind",
            ),
        ]),
    },
    // Keys, signatures and tokens of a wrong length.
    Row {
        advisories: &["2026-23", "CVE-2020-26521"],
        answer: Tests(&[
            (
                "broker/core/src/auth/tests/mutated.rs",
                "only_the_very_credentials_let_in",
            ),
            (
                "broker/core/src/auth/tests/mutated.rs",
                "keys_and_signatures_of_any_length_and_content_do_no_harm",
            ),
            (
                "broker/core/src/auth/nkey.rs",
                "signatures_of_any_wrong_length_or_content_are_refused",
            ),
            (
                "broker/server/src/wire/auth.rs",
                "credentials_of_any_type_and_length_do_no_harm",
            ),
            (
                "broker/server/src/wire/nkeys.rs",
                "signatures_of_others_or_of_other_nonces_or_lengths_are_refused",
            ),
        ]),
    },
    // Handshake messages come again, or in another order.
    Row {
        advisories: &["CVE-2026-29785", "CVE-2026-33218", "2026-19"],
        answer: Tests(&[
            (
                "broker/server/src/wire/auth.rs",
                "repeated_and_strange_handshakes_leave_a_connection_as_it_was",
            ),
            (
                "broker/server/src/wire/auth.rs",
                "a_second_connect_shows_credentials_again",
            ),
            (
                "broker/server/src/wire/nkeys.rs",
                "a_second_connect_signs_the_same_nonce",
            ),
            (
                "broker/proto/src/route/handshake.rs",
                "what_is_not_an_object_of_the_right_types_is_refused",
            ),
            (
                "broker/core/src/cluster/mesh/tests/simulation.rs",
                "a_name_that_leads_to_ourselves_too_does_no_harm",
            ),
        ]),
    },
    // Distinguished names are compared as text.
    Row {
        advisories: &["CVE-2026-33248"],
        answer: Tests(&[
            (
                "broker/core/src/auth/certificate/tests.rs",
                "a_relative_name_with_several_values_is_one",
            ),
            (
                "broker/core/src/auth/certificate/tests.rs",
                "shuffled_names_are_equal_and_others_are_not",
            ),
            (
                "broker/server/src/wire/mapping.rs",
                "subjects_lead_to_users_whatever_the_order_of_their_parts",
            ),
        ]),
    },
    // Secrets of the command line, and passwords, on pages of monitoring.
    Row {
        advisories: &["CVE-2026-33247", "CVE-2026-33216"],
        answer: Tests(&[
            (
                "tests/tests/connect_canary.rs",
                "secrets_in_connect_are_neither_logged_nor_shown_by_monitoring",
            ),
            (
                "tests/tests/core_process/secrets.rs",
                "secrets_are_neither_logged_nor_shown_by_the_system",
            ),
            (
                "broker/server/src/config/tests/command_line.rs",
                "secrets_on_the_command_line_are_pointed_out_but_not_shown",
            ),
            (
                "broker/server/src/monitor/tests/connz.rs",
                "credentials_are_shown_on_request_and_tokens_never",
            ),
            ("broker/core/src/auth/tests.rs", "nothing_secret_is_printed"),
        ]),
    },
    // TLS by flags forgets what the file restricts.
    Row {
        advisories: &["CVE-2021-32026"],
        answer: Tests(&[
            (
                "broker/server/src/config/tests/listeners.rs",
                "a_block_and_flags_give_the_same_settings",
            ),
            (
                "certs/src/reload/tests/settings.rs",
                "cipher_suites_are_the_named_ones_and_tls13_goes_on_unless_it_is_named",
            ),
        ]),
    },
    // A block of the configuration lets everybody in without saying so.
    Row {
        advisories: &["secnote-2023-01", "CVE-2023-47090"],
        answer: Tests(&[
            (
                "broker/server/src/config/tests/auth.rs",
                "users_of_the_system_account_alone_do_not_let_others_in",
            ),
            (
                "broker/server/src/config/tests/auth.rs",
                "empty_lists_and_permissions_without_users_are_not_taken_for_everything",
            ),
            (
                "broker/server/src/config/tests/auth.rs",
                "no_words_about_authorization_leave_the_door_open",
            ),
        ]),
    },
    // The client names the account that it lands in.
    Row {
        advisories: &["CVE-2022-24450"],
        answer: Tests(&[
            (
                "broker/server/src/wire/accounts.rs",
                "whoever_names_an_account_is_refused",
            ),
            (
                "broker/core/src/streaming/tests/publish.rs",
                "the_connection_id_decides_alone_when_given",
            ),
            (
                "broker/core/src/streaming/tests/leave.rs",
                "requests_that_fit_nothing_are_refused_with_their_texts",
            ),
        ]),
    },
    // Headers that servers trust are set by clients, and steer messages elsewhere.
    Row {
        advisories: &[
            "CVE-2026-33223",
            "CVE-2026-33246",
            "CVE-2026-33249",
            "2026-20",
        ],
        answer: Tests(&[(
            "broker/server/src/wire/arguments.rs",
            "headers_steer_nothing",
        )]),
    },
    // Internal subjects are outside of permissions; an id is taken over.
    Row {
        advisories: &["CVE-2026-33215", "CVE-2026-33217", "2026-21"],
        answer: Tests(&[
            (
                "broker/server/src/wire/permissions.rs",
                "internal_subjects_are_under_permissions_as_all_others",
            ),
            (
                "tests/tests/streaming_rights.rs",
                "nobody_reads_the_streaming_subjects_of_others_without_the_right_to",
            ),
            (
                "tests/tests/streaming_rights.rs",
                "streaming_works_with_rights_to_the_own_subjects_only",
            ),
            (
                "broker/core/src/streaming/tests/connect.rs",
                "a_live_client_keeps_its_id",
            ),
        ]),
    },
    // A file name is made from input.
    Row {
        advisories: &["CVE-2022-26652", "CVE-2022-28357", "CVE-2026-33222"],
        answer: Tests(&[
            (
                "broker/core/src/streaming/names.rs",
                "channel_names_are_literal_subjects_without_slashes",
            ),
            (
                "webhook/src/names.rs",
                "keys_that_leave_the_directory_are_no_keys",
            ),
        ]),
    },
    // Credentials that have expired, or belong to somebody else.
    Row {
        advisories: &["CVE-2020-26892", "CVE-2021-3127"],
        answer: Tests(&[
            (
                "broker/server/src/wire/pins.rs",
                "an_expired_certificate_is_refused_even_with_a_ticket_but_its_connection_stays",
            ),
            (
                "certs/src/reload/tests/settings.rs",
                "client_whose_certificate_is_over_is_refused",
            ),
            (
                "webhook/src/issuer/identity.rs",
                "a_token_for_somebody_else_is_refused",
            ),
        ]),
    },
    Row {
        advisories: &["CVE-2023-46129"],
        answer: OutOfReach("nothing is encrypted at rest by us"),
    },
    Row {
        advisories: &["CVE-2020-28466", "CVE-2022-42709"],
        answer: OutOfReach("there are no imports between accounts; their keys are refused"),
    },
    // An interface for administrators asks nobody who he is.
    Row {
        advisories: &["CVE-2025-30215"],
        answer: Tests(&[
            (
                "broker/server/src/monitor/tests/server.rs",
                "whatever_the_method_a_request_only_looks",
            ),
            ("webhook/src/issuer.rs", "only_a_bearer_token_counts"),
        ]),
    },
    // A ticket of one listener is taken by another, with other authorities.
    Row {
        advisories: &["CVE-2025-68121"],
        answer: Tests(&[
            (
                "certs/src/reload/tests/tickets.rs",
                "ticket_is_good_at_its_own_listener_only_and_brings_the_peer_back",
            ),
            (
                "certs/src/reload/tests/tickets.rs",
                "ticket_is_void_once_its_authority_is_no_longer_trusted",
            ),
        ]),
    },
    // A client sends its private key.
    Row {
        advisories: &["CVE-2020-26149"],
        answer: Tests(&[(
            "tests/tests/connect_canary.rs",
            "secrets_in_connect_are_neither_logged_nor_shown_by_monitoring",
        )]),
    },
    // A path leads to a part that is not configured.
    Row {
        advisories: &["2026-27"],
        answer: Tests(&[
            (
                "broker/server/src/monitor/tests/server.rs",
                "pages_of_what_is_off_do_not_exist",
            ),
            (
                "broker/server/src/monitor/tests/server.rs",
                "what_there_is_not_is_shown_as_empty",
            ),
        ]),
    },
];

/// Whether a source has a test function of this name, with an attribute that makes it run.
fn has_test(source: &str, name: &str) -> bool {
    let Some(at) = source.find(&format!("fn {name}(")) else {
        return false;
    };
    let before = &source[..at];
    let attributes = before.rsplit("\n\n").next().unwrap_or_default();
    let runs = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
    runs && !attributes.contains("#[ignore")
}

#[test]
fn every_advisory_has_its_tests() {
    let mut complaints = Vec::new();
    for row in TABLE {
        match row.answer {
            OutOfReach(reason) => assert!(!reason.is_empty()),
            Tests(tests) => {
                assert!(!tests.is_empty(), "{:?}", row.advisories);
                for (file, name) in tests {
                    let source = fs::read_to_string(programs::root().join(file));
                    if !source.is_ok_and(|source| has_test(&source, name)) {
                        complaints.push(format!("{:?}: no {name} in {file}", row.advisories));
                    }
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_advisory_is_missing_or_there_twice() {
    let mut rows: Vec<_> = TABLE.iter().flat_map(|row| row.advisories).collect();
    rows.sort_unstable();
    let twice = rows.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
    let rows: BTreeSet<_> = rows.into_iter().collect();
    assert_eq!(rows, ALL.iter().collect());
}

#[test]
fn a_test_is_told_from_what_only_looks_like_one() {
    let source = "fn helper() {}\n\n#[test]\nfn real() {}\n\n#[test]\n#[ignore]\nfn idle() {}\n";
    assert!(has_test(source, "real"));
    for name in ["helper", "idle", "rea", "missing"] {
        assert!(!has_test(source, name), "{name}");
    }
}
