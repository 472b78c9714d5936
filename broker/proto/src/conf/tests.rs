use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Surroundings {
    files: HashMap<&'static str, &'static str>,
    variables: HashMap<&'static str, &'static str>,
}

impl Resolver for Surroundings {
    fn include(&self, _from: &str, path: &str) -> Result<Source, String> {
        let name = path.trim_start_matches("./");
        match self.files.get(name) {
            Some(text) => Ok(Source {
                name: name.to_owned(),
                text: (*text).to_owned(),
            }),
            None => Err("no such file".to_owned()),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|text| (*text).to_owned())
    }
}

fn read(text: &str) -> Map {
    parse("t.conf", text, &Isolated).unwrap()
}

fn refused(text: &str) -> String {
    parse("t.conf", text, &Isolated).unwrap_err().to_string()
}

fn kind(text: &str) -> Kind {
    read(&format!("v: {text}")).find("v").unwrap().kind.clone()
}

fn string(text: &str) -> Kind {
    Kind::String(text.to_owned())
}

/// `assert_eq!` would print no contents.
fn assert_kind(text: &str, expected: &Kind) {
    assert!(kind(text) == *expected, "{text:?}");
}

#[test]
fn three_separators_and_three_ends_of_an_item_mean_the_same() {
    let expected = read("a: 1\nb: two\nc: { d: true }");
    for text in [
        "a = 1\nb = two\nc = { d = true }",
        "a 1\nb two\nc { d true }",
        "a:1;b:two,c{d:yes}",
        "'a' 1, \"b\" 'two'; c\n{\n d: on # end\n}\n",
        "{\"a\": 1, \"b\": \"two\", \"c\": {\"d\": true}}\n",
        "// first\na: 1 # one\nb: two // two\n\n#\nc: {\r\nd: TRUE\r\n}",
    ] {
        assert!(read(text) == expected, "{text}");
    }
}

#[test]
fn unquoted_words_are_numbers_truths_dates_or_strings() {
    for (text, number) in [
        ("5", 5),
        ("-1", -1),
        ("+7", 7),
        ("1k", 1000),
        ("1KB", 1024),
        ("1ki", 1024),
        ("1KiB", 1024),
        ("5m", 5_000_000),
        ("2mb", 2 << 20),
        ("1g", 1_000_000_000),
        ("1gib", 1 << 30),
        ("3t", 3_000_000_000_000),
        ("1pb", 1 << 50),
        ("1e", 1_000_000_000_000_000_000),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_kind(text, &Kind::Integer(number));
    }
    for (text, value) in [
        ("true", true),
        ("Yes", true),
        ("ON", true),
        ("false", false),
        ("no", false),
        ("off", false),
    ] {
        assert_kind(text, &Kind::Boolean(value));
    }
    assert_kind("1.5", &Kind::Float(1.5));
    assert_kind("-0.25", &Kind::Float(-0.25));
    assert_kind(
        "2016-05-04T18:53:41Z",
        &Kind::Date("2016-05-04T18:53:41Z".to_owned()),
    );
    for text in [
        "10s",
        "1h30m",
        "127.0.0.1:4222",
        "127.0.0.1",
        "/var/run/x.pid",
        "nats://u:p@host:1/",
        "$2a$11$abc",
        "foo.*.bar",
        "5mm",
        "a#b",
        "1.2.3",
        "-x",
        "$",
    ] {
        assert_kind(text, &string(text));
    }
}

#[test]
fn quoted_strings_keep_what_bare_ones_cannot_hold() {
    assert_kind("'a \\n \"b\"'", &string("a \\n \"b\""));
    assert_kind(
        r#""a\tb\n\"\\\x41\u00e9\ud83d\ude00""#,
        &string("a\tb\n\"\\A\u{e9}\u{1f600}"),
    );
    assert_kind(r"a\x20b", &string("a b"));
    assert_kind("\"5\"", &string("5"));
    assert_kind("(\n raw \\n { ) \n\n)", &string("\n raw \\n { ) \n\n"));
    assert!(read("v: (a\n  )\nw: 1").find("w").is_some());
}

#[test]
fn arrays_are_divided_by_commas_and_newlines() {
    let expected = read("v: [1, 2, {a: b}, [x, 'y z']]");
    for text in [
        "v [\n1\n2 # two\n{a b}\n[x,'y z',],\n]",
        "v = [1,2\n  {a: b}, // c\n [x\n'y z']\n]",
    ] {
        assert!(read(text) == expected, "{text}");
    }
    assert!(kind("[]") == Kind::Array(Vec::new()));
}

#[test]
fn the_last_of_equal_keys_wins_and_lookup_ignores_case() {
    let map = read("Port: 1\nport: 2\nPort: 3\nFoo: 1");
    assert_eq!(map.find("foo").unwrap().as_integer(), Some(1));
    assert_eq!(map.entries().filter(|entry| entry.key == "Port").count(), 1);
    assert_eq!(map.find("PORT").unwrap().as_integer(), Some(3));
    assert_eq!(
        read("Port: 1\nport: 2").find("PORT").unwrap().as_integer(),
        Some(2)
    );
}

#[test]
fn values_know_line_and_column_and_their_word() {
    let map = read("a: 1\n  b {\n\tmax_age: 5m }");
    let value = map
        .find("b")
        .unwrap()
        .as_map()
        .unwrap()
        .find("max_age")
        .unwrap();
    assert_eq!(value.at.to_string(), "t.conf:3:11");
    assert_eq!(value.token(), Some("5m"));
    assert_eq!(value.as_integer(), Some(5_000_000));
}

#[test]
fn variables_come_from_enclosing_maps_then_the_environment() {
    let mut around = Surroundings::default();
    around.variables.insert("OUT", "'from outside'");
    around.variables.insert("LIST", "[1, $OUT]");
    around.variables.insert("EMPTY", "");
    let text = "x: 1\nm { x: 2, inner { v: $x } }\nw: $x\no: $OUT\nl: $LIST\nOUT: shadow\np: $OUT, e: $EMPTY";
    let map = parse("t", text, &around).unwrap();
    let inner = map
        .find("m")
        .unwrap()
        .as_map()
        .unwrap()
        .find("inner")
        .unwrap()
        .as_map()
        .unwrap();
    assert_eq!(inner.find("v").unwrap().as_integer(), Some(2));
    assert_eq!(map.find("w").unwrap().as_integer(), Some(1));
    assert_eq!(map.find("o").unwrap().as_str(), Some("from outside"));
    assert_eq!(
        map.find("l").unwrap().as_array().unwrap()[1].as_str(),
        Some("from outside")
    );
    assert_eq!(map.find("p").unwrap().as_str(), Some("shadow"));
    assert_eq!(map.find("e").unwrap().as_str(), Some(""));
    assert!(
        map.entries()
            .find(|entry| entry.key == "x")
            .unwrap()
            .referenced
    );
    assert!(
        !map.entries()
            .find(|entry| entry.key == "w")
            .unwrap()
            .referenced
    );
}

#[test]
fn unknown_and_cyclic_variables_are_errors() {
    assert_eq!(
        refused("a: 1\nb: $NOPE"),
        "t.conf:2:4: variable reference for 'NOPE' on line 2 can not be found"
    );
    let mut around = Surroundings::default();
    around.variables.insert("A", "$B");
    around.variables.insert("B", "[$A]");
    let error = parse("t", "v: $A", &around).unwrap_err().to_string();
    assert!(
        error.ends_with("variable \"A\" refers to itself"),
        "{error}"
    );
}

#[test]
fn repeated_variables_cannot_fill_memory_or_the_stack() {
    let mut wide = String::from("a0: [x, x]\n");
    let mut deep = String::from("a0: [[[[x]]]]\n");
    for level in 1..200 {
        let below = level - 1;
        wide.push_str(&format!("a{level}: [$a{below}, $a{below}]\n"));
        deep.push_str(&format!("a{level}: [[[[$a{below}]]]]\n"));
    }
    assert!(matches!(
        parse("t", &wide, &Isolated).unwrap_err().problem,
        Problem::Expansion | Problem::Depth
    ));
    assert_eq!(
        parse("t", &deep, &Isolated).unwrap_err().problem,
        Problem::Depth
    );
    assert_eq!(
        parse("t", &"a {".repeat(100_000), &Isolated)
            .unwrap_err()
            .problem,
        Problem::Depth
    );
    assert_eq!(
        parse("t", &format!("a {}", "[".repeat(100_000)), &Isolated)
            .unwrap_err()
            .problem,
        Problem::Depth
    );
}

#[test]
fn includes_are_merged_where_they_stand() {
    let mut around = Surroundings::default();
    around
        .files
        .insert("users.conf", "user: bob\nmore { x: $outer }");
    around.files.insert("loop.conf", "include ./again.conf");
    around
        .files
        .insert("again.conf", "a: 1\ninclude 'loop.conf'");
    let map = parse(
        "t",
        "outer: 7\nauth {\n  include \"./users.conf\"\n pass: x }\ninclude: 3",
        &around,
    )
    .unwrap();
    let auth = map.find("auth").unwrap().as_map().unwrap();
    assert_eq!(auth.find("user").unwrap().at.to_string(), "users.conf:1:7");
    assert_eq!(
        auth.find("more")
            .unwrap()
            .as_map()
            .unwrap()
            .find("x")
            .unwrap()
            .as_integer(),
        Some(7)
    );
    assert_eq!(map.find("include").unwrap().as_integer(), Some(3));

    let cycle = parse("t", "include loop.conf", &around).unwrap_err();
    assert_eq!(
        cycle.to_string(),
        "again.conf:2:9: \"loop.conf\" includes itself"
    );
    let missing = parse("t", "\ninclude gone.conf", &around).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "t:2:9: include of \"gone.conf\": no such file"
    );
}

#[test]
fn mistakes_are_refused_where_they_are() {
    for (text, error) in [
        (
            "a: 1 b: 2",
            "t.conf:1:6: expected a newline, ',' or ';' after the value",
        ),
        (
            "a { b: 1 } c: 2",
            "t.conf:1:12: expected a newline, ',' or ';' after the value",
        ),
        ("a:\nb: 2", "t.conf:1:1: key \"a\" has no value"),
        ("a", "t.conf:1:1: key \"a\" has no value"),
        ("x { a: }", "t.conf:1:5: key \"a\" has no value"),
        ("x {\n a: 1\n", "t.conf:1:3: map is not closed"),
        ("x [1, 2", "t.conf:1:3: array is not closed"),
        (
            "x [1 2]",
            "t.conf:1:6: expected a newline, ',' or ';' after the value",
        ),
        ("x [1,,2]", "t.conf:1:6: expected a value"),
        ("x: \"abc", "t.conf:1:4: string is not closed"),
        ("x: 'abc", "t.conf:1:4: string is not closed"),
        ("x: (abc )", "t.conf:1:4: block is not closed"),
        ("}", "t.conf:1:1: expected a key, found '}'"),
        ("x: 1\n}", "t.conf:2:1: expected a key, found '}'"),
        ("{x: 1} y: 2", "t.conf:1:8: text after the closing brace"),
        (
            "x: \"\\q\"",
            "t.conf:1:5: unknown escape in a string; allowed are \\xHH \\t \\n \\r \\\" \\\\",
        ),
        (
            "x: \"\\xff\"",
            "t.conf:1:4: escapes in the string do not make valid UTF-8",
        ),
        (
            "x: 99999999999999999999",
            "t.conf:1:4: integer out of range",
        ),
        ("x: 99e", "t.conf:1:4: integer out of range"),
        ("x: .5", "t.conf:1:4: a float must start with a digit"),
        ("x: 2016-13-04T18:53:41Z", "t.conf:1:4: invalid date"),
        (
            "include x",
            "t.conf:1:9: include of \"x\": includes are not allowed here",
        ),
    ] {
        assert_eq!(refused(text), error, "{text:?}");
    }
}

#[test]
fn debug_shows_no_content() {
    let map = read("password: hunter2\nm { k: [hunter2] }");
    assert!(!format!("{map:?} {:?}", kind("hunter2")).contains("hunter2"));
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        any::<String>().prop_map(Kind::String),
        "[a-z$0-9.:{}#/ -]{0,8}".prop_map(Kind::String),
        any::<bool>().prop_map(Kind::Boolean),
        any::<i64>().prop_map(Kind::Integer),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(Kind::Float),
        Just(Kind::Date("1999-12-31T23:59:59Z".to_owned())),
    ]
    .prop_map(Value::new);
    scalar.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| Value::new(Kind::Array(items))),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|pairs| {
                let mut map = Map::new();
                for (key, value) in pairs {
                    map.insert(key, value);
                }
                Value::new(Kind::Map(map))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_printed_parses_back(pairs in prop::collection::vec((any::<String>(), any_value()), 0..5)) {
        let mut map = Map::new();
        for (key, value) in pairs {
            map.insert(key, value);
        }
        let text = map.to_string();
        let back = parse("printed", &text, &Isolated);
        prop_assert!(back.as_ref().is_ok_and(|back| *back == map), "{back:?} from\n{text}");
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = parse("hostile", &text, &Isolated);
    }

    #[test]
    fn no_arrangement_of_syntax_makes_the_parser_panic(text in r#"([\[\]{}()'"\\$#/:=,; \n\r]|include|x[0-9a]|[a-c]|-?[0-9]{1,20}[kmgtpei]?b?|true){0,60}"#) {
        let _ = parse("hostile", &text, &Isolated);
    }
}
