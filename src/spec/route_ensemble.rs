//! Reads what only an ensemble has: the members with their weights, how they are combined, and how many must answer. A part of
//! `route_toml`.

use crate::types::{Combine, EnsembleSpec, Member};

use super::{route_keys::MAX_PARTS, route_toml::read_part, toml_reader::Node};

pub(super) fn read(root: &Node<'_, '_>) -> Option<EnsembleSpec> {
    const COMBINE: &str = "\"mean\", \"weighted_mean\", \"logit_mean\", \"median\" or \"vote\"";
    let combine = root.required("combine", COMBINE, |node| node.word(&Combine::ALL));
    let tables = root.tables("member", 1..=MAX_PARTS);
    let quorum = root.optional("quorum", |node| {
        let most = tables.as_ref().map_or(MAX_PARTS, Vec::len);
        node.count(1..=u64::try_from(most).unwrap_or(u64::MAX))
    });
    let disagreement = root.optional("disagreement", |node| node.boolean());
    let members = tables.and_then(|tables| {
        let read: Vec<_> = tables.iter().map(|member| read_member(member, combine)).collect();
        read.into_iter().collect()
    });
    Some(EnsembleSpec {
        combine: combine?,
        quorum: quorum?,
        members: members?,
        disagreement: disagreement?.unwrap_or(false),
    })
}

fn read_member(member: &Node<'_, '_>, combine: Option<Combine>) -> Option<Member> {
    let part = read_part(member);
    let weight = member.optional("weight", |node| {
        let weight = node.number()?;
        if weight <= 0.0 {
            return node.expected("a weight above 0");
        }
        #[expect(clippy::float_cmp, reason = "exactly 1 is the weight that changes nothing")]
        if let Some(combine @ (Combine::Mean | Combine::Median)) = combine.filter(|_| weight != 1.0) {
            let combine = combine.as_str();
            let text = "expected weighted_mean, logit_mean or vote";
            return node.wrong(format!("combine = \"{combine}\" knows no weights: {text}, or no weight"));
        }
        Some(weight)
    });
    Some(Member { part: part?, weight: weight?.unwrap_or(1.0) })
}
