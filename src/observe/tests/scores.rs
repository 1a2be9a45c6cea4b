//! Tests of what operators are told about scores: the same numbers as in the metrics, by variant.

use super::*;

#[test]
fn every_variant_reports_its_own_scores() {
    let metrics = Metrics::new();
    let named = score(ScoreKind::Probability, 2).with_class_names(&["no".into(), "yes".into()]);
    let servable = metrics.servable(&id("m", 3), "tract", "d", Some(named));
    let (control, candidate) = (servable.scores("r/control"), servable.scores("r/candidate"));
    servable.record_scores(&rows(2, &[0.25, 0.75]));
    control.record(&rows(2, &[0.9, 0.1, 0.8, 0.2]));
    let reports: Vec<_> = servable.every_scores().iter().map(|series| series.report()).collect();
    let names: Vec<_> = reports.iter().map(|report| &*report.variant).collect();
    assert_eq!(names, ["", "r/candidate", "r/control"]);
    let kinds: Vec<_> = reports[2].histograms.iter().map(|(kind, shown)| (*kind, shown.count())).collect();
    assert_eq!(kinds, [("confidence", 2), ("positive", 2)]);
    let found: Vec<_> = reports.iter().map(classes).collect();
    assert_eq!(found, [vec![("yes", 1)], vec![], vec![("no", 2)]]);
    assert_eq!((reports[1].histograms[0].1.count(), reports[0].histograms[1].1.counts[14]), (0, 1));

    drop(candidate);
    assert_eq!(servable.every_scores().len(), 2, "nobody holds it");
}

#[test]
fn a_model_without_score_reports_none() {
    let metrics = Metrics::new();
    let servable = metrics.servable(&id("m", 1), "tract", "d", None);
    let reports: Vec<_> = servable.every_scores().iter().map(|series| series.report()).collect();
    assert_eq!(reports, [ScoreReport { variant: "".into(), histograms: Vec::new(), classes: Vec::new() }]);
}

fn classes(report: &ScoreReport) -> Vec<(&str, u64)> {
    report.classes.iter().map(|(class, rows)| (&**class, *rows)).collect()
}
