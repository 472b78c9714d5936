//! Recursive descent over one file, its includes and its variables.

use super::{
    Kind, MAX_DEPTH, MAX_EXPANSION, Map, ParseError, Position, Problem, Resolver, Value,
    cursor::{Cursor, is_space},
    scalar::{self, Scalar},
};

pub(super) fn parse(name: &str, text: &str, resolver: &dyn Resolver) -> Result<Map, ParseError> {
    let mut parser = Parser {
        resolver,
        scopes: vec![Map::new()],
        files: vec![name.to_owned()],
        variables: Vec::new(),
        depth: 0,
        expanded: 0,
    };
    parser.file(&mut Cursor::new(name, text))?;
    Ok(parser
        .scopes
        .pop()
        .expect("every map that was opened has been closed"))
}

struct Parser<'a> {
    resolver: &'a dyn Resolver,
    /// Maps that are open, outermost first; variables are looked up in them from the end.
    scopes: Vec<Map>,
    /// Files that are open, by name: an include of one of them is a cycle.
    files: Vec<String>,
    /// Environment variables that are being expanded.
    variables: Vec<String>,
    /// 0 <= depth <= MAX_DEPTH
    depth: usize,
    /// Values and text bytes that references have copied.
    expanded: usize,
}

/// What closes a sequence of entries.
#[derive(Clone, Copy, PartialEq)]
enum End {
    File,
    Brace,
}

impl Parser<'_> {
    fn file(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
        cursor.skip_blank();
        if cursor.peek() != Some('{') {
            return self.entries(cursor, End::File);
        }
        self.entries(cursor, End::Brace)?;
        cursor.skip_blank();
        if cursor.peek().is_some() {
            Err(cursor.error(Problem::TrailingText))
        } else {
            Ok(())
        }
    }

    /// Entries into the innermost scope, with the braces around them if `end` says so.
    fn entries(&mut self, cursor: &mut Cursor<'_>, end: End) -> Result<(), ParseError> {
        let opened = cursor.position();
        if end == End::Brace {
            cursor.bump();
        }
        loop {
            cursor.skip_blank();
            match (cursor.peek(), end) {
                (None, End::File) => return Ok(()),
                (None, End::Brace) => {
                    return Err(ParseError {
                        at: opened,
                        problem: Problem::Unclosed("map"),
                    });
                }
                (Some('}'), End::Brace) => {
                    cursor.bump();
                    return Ok(());
                }
                (Some(_), _) => self.entry(cursor)?,
            }
            end_of_item(cursor, end)?;
        }
    }

    fn entry(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
        let at = cursor.position();
        let quoted = matches!(cursor.peek(), Some('"' | '\''));
        let key = key(cursor)?;
        cursor.skip_spaces();
        let included = !quoted && key.eq_ignore_ascii_case("include");
        if included
            && cursor
                .peek()
                .is_some_and(|next| !matches!(next, '=' | ':' | '{' | '\n'))
        {
            return self.include(cursor);
        }
        if matches!(cursor.peek(), Some('=' | ':')) {
            cursor.bump();
            cursor.skip_spaces();
        }
        if cursor.at_comment() || matches!(cursor.peek(), None | Some('\n')) {
            // A bracket may open on a later line; a word there is more likely the next key.
            cursor.skip_blank();
            if !matches!(cursor.peek(), Some('{' | '[' | '(')) {
                return Err(ParseError {
                    at,
                    problem: Problem::ValueMissing(key),
                });
            }
        } else if matches!(cursor.peek(), Some(',' | ';' | '}' | ']')) {
            return Err(ParseError {
                at,
                problem: Problem::ValueMissing(key),
            });
        }
        let value = self.value(cursor)?;
        self.scopes
            .last_mut()
            .expect("the outermost scope stays open")
            .put(key, at, value);
        Ok(())
    }

    fn include(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
        let at = cursor.position();
        let path = match cursor.peek() {
            Some('"') => double_quoted(cursor)?,
            Some('\'') => single_quoted(cursor)?,
            _ => cursor
                .take_until(|next| next.is_whitespace() || matches!(next, ',' | ';' | '}'))
                .to_owned(),
        };
        if path.is_empty() {
            return Err(ParseError {
                at,
                problem: Problem::ValueExpected,
            });
        }
        let from = self.files.last().expect("the file being read is open");
        let source = match self.resolver.include(from, &path) {
            Ok(source) => source,
            Err(reason) => {
                return Err(ParseError {
                    at,
                    problem: Problem::Include { path, reason },
                });
            }
        };
        if self.files.contains(&source.name) {
            return Err(ParseError {
                at,
                problem: Problem::IncludeCycle(source.name),
            });
        }
        self.deeper(&at)?;
        let mut inner = Cursor::new(&source.name, &source.text);
        self.files.push(source.name.clone());
        self.file(&mut inner)?;
        self.files.pop();
        self.depth -= 1;
        Ok(())
    }

    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<Value, ParseError> {
        let at = cursor.position();
        let kind = match cursor.peek() {
            Some('{') => {
                self.deeper(&at)?;
                self.scopes.push(Map::new());
                self.entries(cursor, End::Brace)?;
                self.depth -= 1;
                Kind::Map(self.scopes.pop().expect("pushed above"))
            }
            Some('[') => {
                self.deeper(&at)?;
                let items = self.array(cursor)?;
                self.depth -= 1;
                Kind::Array(items)
            }
            Some('"') => Kind::String(double_quoted(cursor)?),
            Some('\'') => Kind::String(single_quoted(cursor)?),
            Some('(') => Kind::String(block(cursor)?),
            _ => return self.bare(cursor, at),
        };
        Ok(Value {
            kind,
            at,
            token: None,
        })
    }

    fn array(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Value>, ParseError> {
        let opened = cursor.position();
        cursor.bump();
        let mut items = Vec::new();
        loop {
            cursor.skip_blank();
            match cursor.peek() {
                None => {
                    return Err(ParseError {
                        at: opened,
                        problem: Problem::Unclosed("array"),
                    });
                }
                Some(']') => {
                    cursor.bump();
                    return Ok(items);
                }
                Some(_) => items.push(self.value(cursor)?),
            }
            cursor.skip_spaces();
            match cursor.peek() {
                Some(',') => {
                    cursor.bump();
                }
                None | Some('\n' | ']') => {}
                Some(_) if cursor.at_comment() => {}
                Some(_) => return Err(cursor.error(Problem::ItemEndExpected)),
            }
        }
    }

    /// An unquoted word: string, number, truth value, date or variable.
    fn bare(&mut self, cursor: &mut Cursor<'_>, at: Position) -> Result<Value, ParseError> {
        let start = cursor.rest();
        let mut escaped: Option<Vec<u8>> = None;
        loop {
            let part = cursor.take_until(|next| ends_word(next) || next == '\\');
            if cursor.peek() != Some('\\') {
                if let Some(text) = &mut escaped {
                    text.extend_from_slice(part.as_bytes());
                }
                break;
            }
            let text = escaped.get_or_insert_default();
            text.extend_from_slice(part.as_bytes());
            escape(cursor, text)?;
        }
        if let Some(text) = escaped {
            return Ok(Value {
                kind: Kind::String(utf8(text, &at)?),
                at,
                token: None,
            });
        }
        let word = &start[..start.len() - cursor.rest().len()];
        if word.is_empty() {
            return Err(ParseError {
                at,
                problem: Problem::ValueExpected,
            });
        }
        match scalar::classify(word) {
            Ok(Scalar::Variable(name)) => self.variable(name, at),
            Ok(Scalar::Kind(kind)) => Ok(Value {
                kind,
                at,
                token: Some(Box::from(word)),
            }),
            Err(problem) => Err(ParseError { at, problem }),
        }
    }

    fn variable(&mut self, name: &str, at: Position) -> Result<Value, ParseError> {
        let defined = self
            .scopes
            .iter_mut()
            .rev()
            .find_map(|scope| scope.entries.iter_mut().find(|entry| entry.key == name));
        if let Some(entry) = defined {
            entry.referenced = true;
            let (size, height) = measure(&entry.value);
            self.expanded += size;
            if self.expanded > MAX_EXPANSION {
                return Err(ParseError {
                    at,
                    problem: Problem::Expansion,
                });
            }
            if self.depth + height > MAX_DEPTH {
                return Err(ParseError {
                    at,
                    problem: Problem::Depth,
                });
            }
            return Ok(Value {
                at,
                ..entry.value.clone()
            });
        }
        let Some(text) = self.resolver.variable(name) else {
            let problem = Problem::VariableUnknown {
                name: name.to_owned(),
                line: at.line,
            };
            return Err(ParseError { at, problem });
        };
        if self.variables.iter().any(|open| open == name) {
            return Err(ParseError {
                at,
                problem: Problem::VariableCycle(name.to_owned()),
            });
        }
        self.environment(name, &text, at)
    }

    /// The text of an environment variable is a value in this syntax.
    fn environment(&mut self, name: &str, text: &str, at: Position) -> Result<Value, ParseError> {
        self.expanded += text.len() + 1;
        if self.expanded > MAX_EXPANSION {
            return Err(ParseError {
                at,
                problem: Problem::Expansion,
            });
        }
        self.deeper(&at)?;
        let mut cursor = Cursor::new(&format!("${name}"), text);
        cursor.skip_blank();
        if cursor.peek().is_none() {
            self.depth -= 1;
            return Ok(Value {
                kind: Kind::String(String::new()),
                at,
                token: None,
            });
        }
        self.variables.push(name.to_owned());
        let value = self.value(&mut cursor)?;
        self.variables.pop();
        self.depth -= 1;
        cursor.skip_blank();
        if cursor.peek().is_some() {
            return Err(cursor.error(Problem::ItemEndExpected));
        }
        Ok(Value { at, ..value })
    }

    fn deeper(&mut self, at: &Position) -> Result<(), ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(ParseError {
                at: at.clone(),
                problem: Problem::Depth,
            });
        }
        self.depth += 1;
        Ok(())
    }
}

/// Values and text bytes inside a value, and how many levels it has below itself.
fn measure(value: &Value) -> (usize, usize) {
    let over = |sizes: &mut dyn Iterator<Item = (usize, usize)>| {
        sizes.fold((1, 1), |(size, height), (inner, levels)| {
            (size + inner, height.max(levels + 1))
        })
    };
    match &value.kind {
        Kind::Map(map) => over(&mut map.entries.iter().map(|entry| {
            let (size, height) = measure(&entry.value);
            (size + entry.key.len(), height)
        })),
        Kind::Array(items) => over(&mut items.iter().map(measure)),
        Kind::String(text) | Kind::Date(text) => (1 + text.len(), 0),
        Kind::Boolean(_) | Kind::Integer(_) | Kind::Float(_) => (1, 0),
    }
}

fn end_of_item(cursor: &mut Cursor<'_>, end: End) -> Result<(), ParseError> {
    cursor.skip_spaces();
    match cursor.peek() {
        None | Some('\n') => Ok(()),
        Some(',' | ';') => {
            cursor.bump();
            Ok(())
        }
        Some('}') if end == End::Brace => Ok(()),
        Some(_) if cursor.at_comment() => Ok(()),
        Some(_) => Err(cursor.error(Problem::ItemEndExpected)),
    }
}

fn ends_word(next: char) -> bool {
    next.is_whitespace() || matches!(next, ',' | ';' | ']' | '}')
}

fn key(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    match cursor.peek() {
        Some('"') => double_quoted(cursor),
        Some('\'') => single_quoted(cursor),
        _ => {
            let word =
                cursor.take_until(|next| ends_word(next) || matches!(next, '=' | ':' | '{' | '['));
            match cursor.peek() {
                Some(found) if word.is_empty() => Err(cursor.error(Problem::KeyExpected(found))),
                _ => Ok(word.to_owned()),
            }
        }
    }
}

fn single_quoted(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let at = cursor.position();
    cursor.bump();
    let text = cursor.take_until(|next| next == '\'');
    match cursor.bump() {
        Some(_) => Ok(text.to_owned()),
        None => Err(ParseError {
            at,
            problem: Problem::Unclosed("string"),
        }),
    }
}

fn double_quoted(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let at = cursor.position();
    cursor.bump();
    let mut text = Vec::new();
    loop {
        text.extend_from_slice(
            cursor
                .take_until(|next| matches!(next, '"' | '\\'))
                .as_bytes(),
        );
        match cursor.peek() {
            Some('\\') => escape(cursor, &mut text)?,
            Some(_) => {
                cursor.bump();
                return utf8(text, &at);
            }
            None => {
                return Err(ParseError {
                    at,
                    problem: Problem::Unclosed("string"),
                });
            }
        }
    }
}

/// Raw text up to a line that holds nothing but `)`.
fn block(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let at = cursor.position();
    cursor.bump();
    let mut text = String::new();
    loop {
        text.push_str(cursor.take_until(|next| next == '\n'));
        if cursor.bump().is_none() {
            return Err(ParseError {
                at,
                problem: Problem::Unclosed("block"),
            });
        }
        text.push('\n');
        let line = cursor.rest().split('\n').next().unwrap_or_default();
        if line.trim() == ")" {
            cursor.take_until(|next| !is_space(next));
            cursor.bump();
            return Ok(text);
        }
    }
}

/// One escape, the backslash included.
fn escape(cursor: &mut Cursor<'_>, text: &mut Vec<u8>) -> Result<(), ParseError> {
    let bad = cursor.error(Problem::Escape);
    cursor.bump();
    let byte = match cursor.bump() {
        Some('t') => b'\t',
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('b') => 0x08,
        Some('f') => 0x0c,
        Some('"') => b'"',
        Some('\\') => b'\\',
        Some('/') => b'/',
        Some('x') => match hex(cursor, 2).map(u8::try_from) {
            Some(Ok(byte)) => byte,
            _ => return Err(bad),
        },
        Some('u') => {
            let decoded = unicode(cursor).ok_or(bad)?;
            text.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        _ => return Err(bad),
    };
    text.push(byte);
    Ok(())
}

/// Four hexadecimal digits, or eight as a surrogate pair with `\u` between, as in JSON.
fn unicode(cursor: &mut Cursor<'_>) -> Option<char> {
    let high = hex(cursor, 4)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high);
    }
    if cursor.bump()? != '\\' || cursor.bump()? != 'u' {
        return None;
    }
    let low = hex(cursor, 4)?;
    if !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}

fn hex(cursor: &mut Cursor<'_>, digits: u32) -> Option<u32> {
    (0..digits).try_fold(0, |number, _| {
        Some(number * 16 + cursor.bump()?.to_digit(16)?)
    })
}

fn utf8(text: Vec<u8>, at: &Position) -> Result<String, ParseError> {
    String::from_utf8(text).map_err(|_| ParseError {
        at: at.clone(),
        problem: Problem::Utf8,
    })
}
