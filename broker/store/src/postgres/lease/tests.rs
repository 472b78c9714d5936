use super::*;

/// The row as a broker of this kind keeps it.
fn row(tick: i64, has_sessions: bool, is_locked: bool) -> Row {
    Row {
        id: "stn-0123456789abcdefghijkl".to_owned(),
        tick,
        has_sessions,
        is_locked,
    }
}

/// The row as the reference server keeps it, whose sessions bear no name that tells.
fn row_of_reference(tick: i64) -> Row {
    Row {
        id: "bRLmCwYis4IYWHZAovOBr0".to_owned(),
        ..row(tick, false, false)
    }
}

/// Moves after looks at the given milliseconds.
fn moves(looks: &[(u64, Row)]) -> Vec<Move> {
    let start = Instant::now();
    let mut seen = None;
    looks
        .iter()
        .map(|(at, row)| {
            let (after, next) = Seen::after(seen.take(), row, start + Duration::from_millis(*at));
            seen = Some(after);
            next
        })
        .collect()
}

#[test]
fn a_ticking_owner_is_never_touched() {
    let looks: Vec<_> = (0..20)
        .map(|look| (look * 1000, row(look as i64, true, true)))
        .collect();
    assert!(moves(&looks).iter().all(|next| *next == Move::Wait));
}

#[test]
fn a_released_row_is_taken_at_once() {
    let free = Row {
        id: String::new(),
        ..row(0, false, false)
    };
    assert_eq!(moves(&[(0, free)]), [Move::TakeFree]);
}

#[test]
fn a_standing_tick_is_stolen_after_the_patience_and_not_before() {
    let looks: Vec<_> = (0..10)
        .map(|look| (look * 500, row(7, true, true)))
        .collect();
    let moves = moves(&looks);
    assert!(moves[..9].iter().all(|next| *next == Move::Wait));
    assert_eq!(moves[9], Move::Steal);
}

#[test]
fn two_looks_far_apart_do_not_suffice_to_steal() {
    let looks = [(0, row_of_reference(7)), (60_000, row_of_reference(7))];
    assert_eq!(moves(&looks), [Move::Wait, Move::Wait]);
}

#[test]
fn an_owner_whose_sessions_are_gone_is_replaced_soon() {
    let looks = [
        (0, row(7, true, true)),
        (500, row(7, false, false)),
        (900, row(7, false, false)),
        (1000, row(7, false, false)),
    ];
    let last = [Move::Wait, Move::Wait, Move::Wait, Move::TakeDead];
    assert_eq!(moves(&looks), last);
    let never_seen_alive = [
        (0, row(7, false, false)),
        (600, row(7, false, false)),
        (1400, row(7, false, false)),
        (1500, row(7, false, false)),
    ];
    assert_eq!(moves(&never_seen_alive), last);
}

#[test]
fn an_owner_without_a_session_that_shows_is_left_alone_while_it_ticks() {
    let looks: Vec<_> = (0..20)
        .map(|look| (look * 1000, row(look as i64, false, false)))
        .collect();
    assert!(moves(&looks).iter().all(|next| *next == Move::Wait));
}

#[test]
fn an_owner_that_comes_back_keeps_the_store() {
    let looks = [
        (0, row(7, true, true)),
        (500, row(7, false, false)),
        (1500, row(8, true, true)),
        (2100, row(8, false, false)),
        (3000, row(9, true, true)),
    ];
    assert!(moves(&looks).iter().all(|next| *next == Move::Wait));
}

#[test]
fn a_reference_server_is_given_the_full_patience() {
    let looks: Vec<_> = (0..9)
        .map(|look| (look * 500, row_of_reference(7)))
        .collect();
    assert!(moves(&looks).iter().all(|next| *next == Move::Wait));
}
