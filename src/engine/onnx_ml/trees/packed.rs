//! Trees as they are walked: eight bytes a node, every branch one `<=` between integers, its two children side by side.
//!
//! A row is walked as a list of integers, its columns. Column 0 is the least integer for every row; leaves compare it with
//! what they give, so that a row that has come to a leaf stays there, and all rows take as many steps as the deepest path is
//! long. Behind it are the features, with missing values as the greatest integer, which is more than any threshold; and once
//! more those that a branch wants as the least integer when they are missing.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
};

use super::{
    forest::{Forest, Node, Test},
    keys::{Key, Number},
    leaves::Leaves,
};

/// Columns that a narrow record can name.
pub(super) const NARROW_COLUMNS: usize = 256;
/// Records that a narrow record can name.
const NARROW_RECORDS: usize = 1 << 24;
/// Records that a group of rows goes through before the next group does: they stay in the nearest cache.
const BLOCK_RECORDS: usize = 4096;

/// A branch or a leaf.
pub(super) trait Record<K>: Copy {
    /// The first child: a row whose column is at most the split goes there, others to the one behind it. A leaf is its own.
    fn child(self) -> u32;

    fn column(self) -> usize;

    /// What the column is compared with. Of a leaf what it gives, in bits.
    fn split(self) -> K;
}

/// A record of forests that are not huge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Narrow<K> {
    split: K,
    /// The child, and the column in the lowest eight bits.
    link: u32,
}

/// A record of any forest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wide<K> {
    split: K,
    child: u32,
    column: u32,
}

impl<K: Key> Record<K> for Narrow<K> {
    #[inline(always)]
    fn child(self) -> u32 {
        self.link >> 8
    }

    #[inline(always)]
    fn column(self) -> usize {
        (self.link % NARROW_COLUMNS as u32) as usize
    }

    #[inline(always)]
    fn split(self) -> K {
        self.split
    }
}

impl<K: Key> Record<K> for Wide<K> {
    #[inline(always)]
    fn child(self) -> u32 {
        self.child
    }

    #[inline(always)]
    fn column(self) -> usize {
        self.column as usize
    }

    #[inline(always)]
    fn split(self) -> K {
        self.split
    }
}

/// The records of all trees.
#[derive(Clone, Debug)]
pub(super) enum Records<K> {
    Narrow(Vec<Narrow<K>>),
    Wide(Vec<Wide<K>>),
}

/// One tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) root: u32,
    /// Steps after which every row is at a leaf.
    pub(super) depth: u32,
}

/// What a row's columns are.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// Features of a row, from the first.
    pub(super) features: usize,
    /// Features that come again, with missing values as the least integer.
    low: Vec<u32>,
}

impl Columns {
    pub(super) fn count(&self) -> usize {
        1 + self.features + self.low.len()
    }

    /// Writes the columns of a row, which has at least as many features as there are.
    #[inline]
    pub(super) fn fill<T: Number>(&self, row: &[T], columns: &mut [T::Key]) {
        let Some((first, columns)) = columns.split_first_mut() else { return };
        *first = T::Key::LEAST;
        for (column, value) in columns.iter_mut().zip(&row[..self.features]) {
            *column = value.key(T::Key::GREATEST);
        }
        for (column, feature) in columns.iter_mut().skip(self.features).zip(&self.low) {
            *column = row[*feature as usize].key(T::Key::LEAST);
        }
    }
}

/// Trees in the precision of their rows.
#[derive(Clone, Debug)]
pub(super) struct Packed<T: Number> {
    pub(super) records: Records<T::Key>,
    pub(super) trees: Vec<Tree>,
    /// Runs of trees that fit the nearest cache together.
    pub(super) blocks: Vec<Range<usize>>,
    pub(super) columns: Columns,
    pub(super) leaves: Leaves<T>,
}

impl<T: Number> Packed<T> {
    /// `leaves` must be those of the forest.
    pub(super) fn new(forest: &Forest, leaves: Leaves<T>) -> Self {
        let packer = Packer::<T> {
            forest,
            leaves: &leaves,
            records: Vec::new(),
            pairs: vec![NOWHERE; 2 * forest.nodes.len()],
            low: HashMap::new(),
        };
        let (records, trees, blocks, low) = packer.pack();
        let columns = Columns { features: forest.features, low };
        let narrow = columns.count() <= NARROW_COLUMNS && records.len() <= NARROW_RECORDS;
        let link = |record: &Wide<T::Key>| Narrow { split: record.split, link: record.child << 8 | record.column };
        let records = if narrow { Records::Narrow(records.iter().map(link).collect()) } else { Records::Wide(records) };
        Self { records, trees, blocks, columns, leaves: leaves.packed() }
    }
}

/// A node, or the second question of one whose test takes two.
#[derive(Clone, Copy)]
struct Asked {
    node: u32,
    second: bool,
}

/// One comparison: at most `most` goes to `yes`. `low` = a missing value does too.
struct Question<K> {
    most: K,
    low: bool,
    yes: Asked,
    no: Asked,
}

const NOWHERE: u32 = u32::MAX;

struct Packer<'a, T: Number> {
    forest: &'a Forest,
    leaves: &'a Leaves<T>,
    records: Vec<Wide<T::Key>>,
    /// Where the children of what is asked are.
    pairs: Vec<u32>,
    /// Features whose missing values go low, and which they are.
    low: HashMap<u32, u32>,
}

type Layout<K> = (Vec<Wide<K>>, Vec<Tree>, Vec<Range<usize>>, Vec<u32>);

impl<T: Number> Packer<'_, T> {
    fn pack(mut self) -> Layout<T::Key> {
        let (mut trees, mut blocks) = (Vec::with_capacity(self.forest.roots.len()), Vec::new());
        let mut depths = Vec::new();
        let (mut first, mut start) = (0, 0);
        for (number, root) in self.forest.roots.iter().enumerate() {
            let root = self.place(*root);
            depths.resize(self.records.len(), NOWHERE);
            trees.push(Tree { root, depth: depth(&self.records, root, &mut depths) });
            if self.records.len() - start >= BLOCK_RECORDS {
                blocks.push(first..number + 1);
                (first, start) = (number + 1, self.records.len());
            }
        }
        if first < trees.len() {
            blocks.push(first..trees.len());
        }
        let mut low: Vec<_> = self.low.into_iter().collect();
        low.sort_unstable_by_key(|(_, place)| *place);
        (self.records, trees, blocks, low.into_iter().map(|(feature, _)| feature).collect())
    }

    /// Lays out a tree level by level, children side by side, and gives the place of its root. What trees share is there once.
    fn place(&mut self, root: u32) -> u32 {
        let top = self.records.len();
        self.records.push(Wide::default());
        let mut waiting = VecDeque::from([(top, Asked { node: root, second: false })]);
        while let Some((at, asked)) = waiting.pop_front() {
            let Node::Branch { feature, .. } = self.forest.nodes[asked.node as usize] else {
                let split = self.leaves.gives(asked.node);
                self.records[at] = Wide { split, child: at as u32, column: 0 };
                continue;
            };
            let question = self.question(asked);
            let pair = &mut self.pairs[2 * asked.node as usize + usize::from(asked.second)];
            if *pair == NOWHERE {
                let next = self.records.len();
                *pair = next as u32;
                waiting.extend([(next, question.yes), (next + 1, question.no)]);
                self.records.extend([Wide::default(); 2]);
            }
            let child = *pair;
            let column = self.column(feature, question.low);
            self.records[at] = Wide { split: question.most, child, column };
        }
        top as u32
    }

    fn column(&mut self, feature: u32, low: bool) -> u32 {
        if !low {
            return 1 + feature;
        }
        let next = self.low.len() as u32;
        1 + self.forest.features as u32 + *self.low.entry(feature).or_insert(next)
    }

    /// The comparison of a branch.
    fn question(&self, asked: Asked) -> Question<T::Key> {
        let node = self.forest.nodes[asked.node as usize];
        let Node::Branch { test, missing, value, yes, no, .. } = node else {
            return Question { most: T::Key::GREATEST, low: false, yes: asked, no: asked };
        };
        let [yes, no] = [yes, no].map(|node| Asked { node, second: false });
        let never = value.is_nan();
        let most = T::from(value).unwrap_or_else(T::nan).key(T::Key::LEAST);
        // Nothing is at most the least but a missing value that goes low; everything but one that goes high is at most this.
        let (nothing, everything) = (T::Key::LEAST, T::Key::GREATEST.before());
        match test {
            Test::LessOrEqual => Question { most, low: missing, yes, no },
            Test::Less | Test::Equal if never => Question { most: nothing, low: missing, yes, no },
            Test::Less => Question { most: most.before(), low: missing, yes, no },
            Test::Greater | Test::GreaterOrEqual if never => {
                Question { most: everything, low: !missing, yes: no, no: yes }
            }
            Test::Greater => Question { most, low: !missing, yes: no, no: yes },
            Test::GreaterOrEqual => Question { most: most.before(), low: !missing, yes: no, no: yes },
            // A value that is not there is unlike all others, and so is every value unlike it.
            Test::NotEqual if never => Question { most: T::Key::GREATEST, low: false, yes, no },
            Test::Equal | Test::NotEqual if asked.second => {
                let (equal, other) = if test == Test::Equal { (yes, no) } else { (no, yes) };
                Question { most: most.before(), low: false, yes: other, no: equal }
            }
            Test::Equal => Question { most, low: missing, yes: Asked { second: true, ..asked }, no },
            Test::NotEqual => Question { most, low: false, yes: Asked { second: true, ..asked }, no: yes },
        }
    }
}

/// The longest path from a record to a leaf. `depths` are those that are known.
fn depth<K: Key>(records: &[Wide<K>], root: u32, depths: &mut [u32]) -> u32 {
    let mut stack = vec![root];
    while let Some(at) = stack.last().copied() {
        let record = records[at as usize];
        if record.column == 0 {
            depths[at as usize] = 0;
            stack.pop();
            continue;
        }
        let children = [record.child, record.child + 1];
        let known = children.map(|child| depths[child as usize]);
        if known.contains(&NOWHERE) {
            stack.extend(children.iter().zip(known).filter(|(_, depth)| *depth == NOWHERE).map(|(child, _)| *child));
        } else {
            depths[at as usize] = 1 + known[0].max(known[1]);
            stack.pop();
        }
    }
    depths[root as usize]
}
