//! What a Rust file names.
//!
//! Rust's own lexer tells code from comments and strings, also inside of macros, which a parser of items would not enter.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, Spacing, Span, TokenStream, TokenTree};

/// A path such as `crate::hub::Hub`, with groups spelt out: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// Whether only tests are compiled with it.
    pub(super) in_test: bool,
}

/// Every path in a file, single names included.
pub(super) fn paths(text: &str) -> Result<Vec<NamedPath>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{error}"))?;
    let mut paths = Vec::new();
    walk(&tokens.into_iter().collect::<Vec<_>>(), false, &mut paths);
    Ok(paths)
}

fn walk(tokens: &[TokenTree], in_test: bool, paths: &mut Vec<NamedPath>) {
    let mut at = 0;
    while at < tokens.len() {
        if let Some(end) = test_item_end(&tokens[at..]) {
            walk(&tokens[at + 2..at + end], true, paths);
            at += end;
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(_) => at += path(&tokens[at..], &[], in_test, paths),
            TokenTree::Group(group) => {
                attribute(&tokens[..at], group, in_test, paths);
                walk(&group.stream().into_iter().collect::<Vec<_>>(), in_test, paths);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Adds an attribute's name as `#name`, so that it is not taken for a variable.
fn attribute(before: &[TokenTree], group: &Group, in_test: bool, paths: &mut Vec<NamedPath>) {
    let Some(TokenTree::Punct(hash)) = before.last() else { return };
    if let ('#', Some(TokenTree::Ident(name))) = (hash.as_char(), group.stream().into_iter().next()) {
        paths.push(NamedPath { segments: vec![format!("#{name}")], line: line_of(name.span()), in_test });
    }
}

/// If an item that only tests have begins here, how many tokens it takes: `#[cfg(test)]` and all until `{…}` or `;`.
fn test_item_end(tokens: &[TokenTree]) -> Option<usize> {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), rest @ ..] = tokens else { return None };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    if hash.as_char() != '#' || text != "cfg(test)" {
        return None;
    }
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    rest.iter().position(is_end).map(|end| end + 3)
}

/// Adds the path that begins here, behind `prefix`, and returns how many tokens it takes.
fn path(tokens: &[TokenTree], prefix: &[String], in_test: bool, paths: &mut Vec<NamedPath>) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = 0;
    let mut at = 0;
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        line = line_of(name.span());
        segments.push(name.to_string().trim_start_matches("r#").to_owned());
        at += 1;
        if !is_separator(&tokens[at..]) {
            break;
        }
        at += 2;
        if let Some(TokenTree::Group(group)) = tokens.get(at)
            && group.delimiter() == Delimiter::Brace
        {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            branches(&inner, &segments, in_test, paths);
            return at + 1;
        }
    }
    paths.push(NamedPath { segments, line, in_test });
    at
}

/// The inside of `{a, b::c, self as d}`.
fn branches(tokens: &[TokenTree], prefix: &[String], in_test: bool, paths: &mut Vec<NamedPath>) {
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    for branch in tokens.split(is_comma) {
        match branch.first() {
            Some(TokenTree::Ident(name)) if name == "self" => {
                paths.push(NamedPath { segments: prefix.to_vec(), line: line_of(name.span()), in_test });
            }
            Some(TokenTree::Ident(_)) => {
                path(branch, prefix, in_test, paths);
            }
            // `*` names whatever is in there.
            Some(TokenTree::Punct(star)) => {
                paths.push(NamedPath { segments: prefix.to_vec(), line: line_of(star.span()), in_test });
            }
            _ => {}
        }
    }
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(first), TokenTree::Punct(second), ..] = tokens else { return false };
    // In `field: ::krate::Type` the first colon stands alone.
    first.as_char() == ':' && first.spacing() == Spacing::Joint && second.as_char() == ':'
}

fn line_of(span: Span) -> usize {
    span.start().line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_wherever_they_hide() {
        let text = r##"
            //! crate::comment
            use crate::{hub::{self, Hub}, bus as b, limits::*};
            /// crate::doc
            fn a() { tokio::select! { x = crate::inner::wait() => {} } "crate::text"; r#"crate::raw"#; }
            #[cfg(test)]
            mod tests { use crate::only_tests; }
            fn b() -> super::Sibling { todo!() }
        "##;
        let found = paths(text).unwrap();
        let shown = |in_test| {
            let paths = found.iter().filter(|path| path.in_test == in_test);
            let paths = paths.filter(|path| path.segments.len() > 1).map(|path| path.segments.join("::"));
            paths.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            shown(false),
            "crate::hub crate::hub::Hub crate::bus crate::limits tokio::select crate::inner::wait super::Sibling"
        );
        assert_eq!(shown(true), "crate::only_tests");
        assert_eq!(found.iter().find(|path| path.segments.last().unwrap() == "wait").unwrap().line, 5);
    }
}
