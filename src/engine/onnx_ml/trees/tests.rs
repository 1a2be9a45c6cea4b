//! The packed trees against files that are followed node by node, and files that are not trees.

use proptest::{collection::vec, prelude::*};
use tract_onnx::tract_hir::internal::tensor1;

use super::*;
use file::{FEATURES, File, MODES, TARGETS, Tree};

mod file;

/// Values that meet each other often, and those at the ends.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => (-2..=2_i8).prop_map(f32::from),
        3 => -2.0_f32..2.0,
        1 => prop::sample::select(vec![-0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, -1e-45, f32::MAX]),
    ]
}

fn value_or_nan() -> impl Strategy<Value = f32> {
    prop_oneof![9 => value(), 1 => Just(f32::NAN)]
}

fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![-2.0_f32..2.0, (-2..=2_i8).prop_map(f32::from)]
}

/// Leaves that give one weight to one target, one to every target, or anything.
fn leaf(form: usize, target: usize) -> BoxedStrategy<Vec<(usize, f32)>> {
    match form {
        0 => weight().prop_map(move |weight| vec![(target, weight)]).boxed(),
        1 => vec(weight(), TARGETS).prop_map(|weights| weights.into_iter().enumerate().collect()).boxed(),
        _ => vec((0..TARGETS, weight()), 0..4).boxed(),
    }
}

fn tree(form: usize, modes: usize) -> impl Strategy<Value = Tree> {
    let grown = move |target| {
        let leaf = leaf(form, target).prop_map(Tree::Leaf);
        leaf.prop_recursive(14, 40, 2, move |inner| {
            let some = prop_oneof![inner.clone(), self::leaf(form, target).prop_map(Tree::Leaf)];
            (0..modes, any::<bool>(), 0..FEATURES, value_or_nan(), inner, some, any::<bool>()).prop_map(
                |(mode, missing, feature, value, a, b, turned)| {
                    let (yes, no) = if turned { (b, a) } else { (a, b) };
                    Tree::Branch { mode, missing, feature, value, yes: Box::new(yes), no: Box::new(no) }
                },
            )
        })
    };
    (0..TARGETS).prop_flat_map(grown)
}

/// One comparison for all branches, or any.
fn trees() -> impl Strategy<Value = Vec<Tree>> {
    let of = |(form, modes)| vec(tree(form, modes), 1..20);
    (0..3_usize, prop_oneof![Just(1), Just(MODES.len())]).prop_flat_map(of)
}

fn rows() -> impl Strategy<Value = Vec<Vec<f32>>> {
    vec(vec(value_or_nan(), FEATURES), 1..70)
}

/// What the leaf of every tree gives to a row, the file read node by node.
fn followed(file: &File, row: &[f32], targets: usize) -> Vec<Vec<(usize, f32)>> {
    let place = |tree, id| (0..file.nodes.len()).find(|at| (file.trees[*at], file.nodes[*at]) == (tree, id)).unwrap();
    let is_root = |at: &usize| *at == 0 || file.trees[*at] != file.trees[*at - 1];
    let leaf = |root: usize| {
        let mut at = root;
        while file.modes[at] != "LEAF" {
            let (x, value) = (row[file.features[at] as usize], file.values[at]);
            let passes = match file.modes[at] {
                "BRANCH_LEQ" => x <= value,
                "BRANCH_LT" => x < value,
                "BRANCH_GTE" => x >= value,
                "BRANCH_GT" => x > value,
                "BRANCH_EQ" => x == value,
                _ => x != value,
            };
            let passes = passes || (file.missing[at] == 1 && x.is_nan());
            at = place(file.trees[at], if passes { file.yes[at] } else { file.no[at] });
        }
        let own = |weight: &&(i64, i64, i64, f32)| (weight.0, weight.1) == (file.trees[at], file.nodes[at]);
        let given = file.weights.iter().filter(own).map(|weight| (weight.2 as usize, weight.3));
        given.take(if targets == 1 { 1 } else { usize::MAX }).collect()
    };
    (0..file.nodes.len()).filter(is_root).map(leaf).collect()
}

/// What a regressor answers for a row, by what it is defined to do.
fn answer(file: &File, row: &[f32], targets: &Expected) -> Vec<f32> {
    let width = targets.base.len();
    let followed = followed(file, row, width);
    let mut out = vec![0.0; width];
    for (target, out) in out.iter_mut().enumerate() {
        let given = followed.iter().flatten().filter(|(to, _)| *to == target).map(|(_, weight)| *weight);
        let value = match targets.aggregate {
            Aggregate::Sum => given.clone().fold(0.0, |sum, weight| sum + weight),
            Aggregate::Average => given.clone().fold(0.0, |sum, weight| sum + weight) / followed.len() as f32,
            Aggregate::Min => given.clone().reduce(f32::min).unwrap_or(0.0),
            Aggregate::Max => given.clone().reduce(f32::max).unwrap_or(0.0),
        };
        *out = if given.count() > 0 || width == 1 { value + targets.base[target] } else { 0.0 };
    }
    if width > 1 || targets.post == PostTransform::Probit {
        targets.post.apply(&mut out);
    }
    out
}

/// The attributes beside the trees.
#[derive(Clone, Debug)]
struct Expected {
    aggregate: Aggregate,
    base: Vec<f32>,
    post: PostTransform,
}

fn expected(width: usize) -> impl Strategy<Value = Expected> {
    use PostTransform::{Logistic, None, Probit, Softmax, SoftmaxZero};
    let aggregates = vec![Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max];
    let posts = vec![None, None, None, Softmax, Logistic, SoftmaxZero, Probit];
    (prop::sample::select(aggregates), vec(weight(), width), prop::sample::select(posts))
        .prop_map(|(aggregate, base, post)| Expected { aggregate, base, post })
}

fn same(a: f32, b: f32) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

fn regressor_of(file: &File, expected: &Expected) -> Regressor {
    let forest = file.forest_of(expected.base.len()).unwrap();
    let base = expected.base.iter().copied().map(f64::from).collect();
    let targets = Targets::new(expected.aggregate, base, expected.base.len(), expected.post, forest.roots.len());
    Regressor { trees: Trees::Read(Arc::new(forest)), targets: Arc::new(targets), only: None }
}

/// Answers of the operator made for rows of a type.
fn run<T: Datum>(regressor: &Regressor, rows: &[Vec<T>]) -> Vec<f32> {
    let input = tensor1(&rows.concat()).into_shape(&[rows.len(), rows[0].len()]).unwrap();
    let output = regressor.made_for(T::datum_type()).unwrap().run(&input).unwrap();
    output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every row of every batch gets what following the file gives, to the last bit; rows do not see each other.
    #[test]
    fn walks_like_a_person(trees in trees(), rows in rows(), expected in expected(TARGETS)) {
        let file = File::of(&trees);
        let regressor = regressor_of(&file, &expected);
        let answers = run(&regressor, &rows);
        for (row, got) in rows.iter().zip(answers.chunks(TARGETS)) {
            let want = answer(&file, row, &expected);
            prop_assert!(got.iter().zip(&want).all(|(got, want)| same(*got, *want)), "{row:?}: {want:?}, {got:?}");
        }
        let alone = rows.iter().flat_map(|row| run(&regressor, std::slice::from_ref(row)));
        prop_assert!(alone.zip(&answers).all(|(alone, together)| same(alone, *together)));
    }

    /// The same for a single target, where a leaf gives its first weight only.
    #[test]
    fn a_single_target(trees in trees(), rows in rows(), expected in expected(1)) {
        let mut file = File::of(&trees);
        file.weights.iter_mut().for_each(|weight| weight.2 = 0);
        for (row, got) in rows.iter().zip(run(&regressor_of(&file, &expected), &rows)) {
            let want = answer(&file, row, &expected)[0];
            prop_assert!(same(got, want), "{row:?}: {want}, {got}");
        }
    }

    /// Doubles go the same ways, and so do rows of more features than a narrow record can name.
    #[test]
    fn doubles_and_many_features(trees in trees(), rows in rows(), base in vec(weight(), TARGETS)) {
        let expected = Expected { aggregate: Aggregate::Sum, base, post: PostTransform::None };
        let mut file = File::of(&trees);
        let answers = run(&regressor_of(&file, &expected), &rows);
        let doubles: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().copied().map(f64::from).collect()).collect();
        let near = |a: &f32, b: &f32| (a - b).abs() < 1e-3;
        let in_double = run(&regressor_of(&file, &expected), &doubles);
        prop_assert!(in_double.iter().zip(&answers).all(|(a, b)| near(a, b)));
        const APART: usize = 150;
        file.features.iter_mut().for_each(|feature| *feature *= APART as i64);
        let spread = |row: &Vec<f32>| row.iter().flat_map(|x| [&[*x][..], &[f32::NAN; APART - 1]].concat()).collect();
        let rows: Vec<Vec<f32>> = rows.iter().map(spread).collect();
        let wide = run(&regressor_of(&file, &expected), &rows);
        prop_assert!(wide.iter().zip(&answers).all(|(a, b)| same(*a, *b)));
        let doubles: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().copied().map(f64::from).collect()).collect();
        let wide = run(&regressor_of(&file, &expected), &doubles);
        prop_assert!(wide.iter().zip(&answers).all(|(a, b)| near(a, b)));
    }

    /// Children may be any nodes of their tree, many times over: those that make no circle are walked, the others refused.
    #[test]
    fn shared_branches_are_walked_and_circles_refused(
        trees in trees(),
        rows in rows(),
        expected in expected(TARGETS),
        moves in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 1..6),
    ) {
        let mut file = File::of(&trees);
        for (from, to, yes, forward) in moves {
            let from = from.index(file.nodes.len());
            let tree: Vec<_> = (0..file.nodes.len()).filter(|at| file.trees[*at] == file.trees[from]).collect();
            // Nodes are numbered from the root down: going on to a later one makes no circle.
            let to = file.nodes[tree[to.index(tree.len())]];
            if to > file.nodes[from] || !forward {
                let child = if yes { &mut file.yes[from] } else { &mut file.no[from] };
                *child = to;
            }
        }
        match file.forest() {
            Err(error) => {
                prop_assert!(error.ends_with("leads back to itself"), "{error}");
                prop_assert!(file.has_a_circle());
            }
            Ok(_) => {
                prop_assert!(!file.has_a_circle());
                let answers = run(&regressor_of(&file, &expected), &rows);
                for (row, got) in rows.iter().zip(answers.chunks(TARGETS)) {
                    let want = answer(&file, row, &expected);
                    prop_assert!(got.iter().zip(&want).all(|(got, want)| same(*got, *want)), "{want:?}, {got:?}");
                }
            }
        }
    }
}

/// A file's leaves take the form that is quickest for them.
#[test]
fn leaves_take_the_form_that_fits() {
    let leaf = |weights: &[(usize, f32)]| Box::new(Tree::Leaf(weights.to_vec()));
    let tree = |yes, no| Tree::Branch { mode: 0, missing: false, feature: 0, value: 0.0, yes, no };
    let form = |trees: &[Tree]| match Leaves::<f32>::quickest(&File::of(trees).forest().unwrap(), TARGETS) {
        Leaves::Single { targets, given, .. } => format!("{targets:?} {given:?}"),
        Leaves::Dense { weights, .. } => format!("{weights:?}"),
        Leaves::Lists { .. } => "lists".to_owned(),
    };
    let turns = [tree(leaf(&[(2, 1.0)]), leaf(&[(2, 3.0)])), tree(leaf(&[(0, 1.0)]), leaf(&[(0, 3.0)]))];
    assert_eq!(form(&turns), "[2, 0] [true, false, true]");
    let every = [(0, 1.0), (1, 2.0), (2, 3.0)];
    assert_eq!(form(&[tree(leaf(&every), leaf(&every))]), "[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]");
    assert_eq!(form(&[tree(leaf(&every), leaf(&[(0, 1.0)]))]), "lists");
    assert_eq!(form(&[tree(leaf(&[(1, 1.0)]), leaf(&[(0, 1.0)]))]), "lists");
    assert_eq!(form(&[tree(leaf(&[(0, 1.0)]), leaf(&[]))]), "lists");
}

/// Deep chains: paths of all lengths up to far beyond what is walked without looking.
#[test]
fn chains_end_where_they_should() {
    let leaf = |weight| Box::new(Tree::Leaf(vec![(0, weight)]));
    for (mode, length) in [(0, 1), (0, 8), (0, 9), (0, 300), (4, 40), (5, 40)] {
        let link = |rest, at: usize| {
            let (value, [a, b]) = (at as f32, [leaf(at as f32), rest]);
            let (yes, no) = if mode == 5 { (b, a) } else { (a, b) };
            Box::new(Tree::Branch { mode, missing: false, feature: 0, value, yes, no })
        };
        let chain = (0..length).rev().fold(leaf(-1.0), link);
        let file = File::of(&vec![*chain; 17]);
        let rows: Vec<_> = (0..=length + 1).map(|at| vec![at as f32, 0.0, 0.0]).collect();
        let expected = Expected { aggregate: Aggregate::Min, base: vec![0.0], post: PostTransform::None };
        let wants = (0..=length + 1).map(|at| if at < length { at as f32 } else { -1.0 });
        let answers = run(&regressor_of(&file, &expected), &rows);
        assert_eq!(answers, wants.clone().collect::<Vec<_>>());
        let alone = rows.iter().flat_map(|row| run(&regressor_of(&file, &expected), std::slice::from_ref(row)));
        assert!(alone.eq(wants));
    }
}

fn stump() -> File {
    let leaf = |weight| Box::new(Tree::Leaf(vec![(0, weight)]));
    let (yes, no) = (leaf(1.0), leaf(2.0));
    File::of(&[Tree::Branch { mode: 0, missing: false, feature: 2, value: 0.5, yes, no }])
}

#[test]
fn files_that_are_not_trees_are_refused() {
    let refused = |change: fn(&mut File), text: &str| {
        let mut file = stump();
        change(&mut file);
        assert_eq!(file.forest().unwrap_err(), text);
    };
    assert!(stump().forest().is_ok());
    refused(|file| file.yes[0] = 9, "tree 0: node 0: there is no node 9");
    refused(|file| file.no[0] = 0, "tree 0: node 0 leads back to itself");
    refused(|file| file.nodes[2] = 1, "tree 0: node 1 is given twice");
    refused(|file| file.modes[1] = "BRANCH", "attribute 'nodes_modes': there is no mode 'BRANCH'");
    refused(|file| file.values.truncate(2), "attribute 'nodes_values': expected 3 values, got 2");
    refused(|file| file.modes.truncate(2), "attribute 'nodes_modes': expected 3 values, got 2");
    refused(|file| file.weights[0].2 = 3, "attribute 'target_ids': expected less than 3, got 3");
    refused(|file| file.weights[0].2 = -1, "attribute 'target_ids': expected less than 3, got -1");
    refused(|file| *file = File::default(), "attribute 'nodes_treeids': expected at least one node, got none");
    let text = "attribute 'nodes_featureids': expected 0 to 1073741823, got ";
    refused(|file| file.features[0] = -1, &format!("{text}-1"));
    refused(|file| file.features[0] = 1 << 30, &format!("{text}1073741824"));
}

#[test]
fn circles_are_refused_and_shared_branches_are_not() {
    let branch = |yes, no| Tree::Branch { mode: 0, missing: false, feature: 0, value: 0.0, yes, no };
    let leaf = || Box::new(Tree::Leaf(vec![(0, 1.0)]));
    let mut file = File::of(&[branch(Box::new(branch(leaf(), leaf())), leaf())]);
    // Nodes: 0 branch, 1 branch, 2 and 3 its leaves, 4 leaf.
    file.yes[1] = 4;
    assert!(file.forest().is_ok());
    file.yes[1] = 0;
    assert_eq!(file.forest().unwrap_err(), "tree 0: node 0 leads back to itself");
}

#[test]
fn rows_must_have_the_features() {
    let packed =
        |file: &File| Packed::<f32>::new(&file.forest().unwrap(), Leaves::quickest(&file.forest().unwrap(), TARGETS));
    let forest = packed(&stump());
    let text = sums::sum(&forest, &[0.0, 0.0], 2, TARGETS).err().unwrap().to_string();
    assert_eq!(text, "expected at least 3 features, got 2");
    assert_eq!(sums::sum(&forest, &[], 3, TARGETS).unwrap().rows().count(), 0);
    assert!(sums::sum(&forest, &[], 0, TARGETS).is_err());
    let leaf = File::of(&[Tree::Leaf(vec![(1, 2.0)])]);
    let forest = packed(&leaf);
    assert_eq!(sums::sum(&forest, &[0.0; 5], 1, TARGETS).unwrap().rows().map(|row| row.values[1]).sum::<f32>(), 10.0);
    assert!(sums::sum(&forest, &[], 0, TARGETS).is_err());
}
