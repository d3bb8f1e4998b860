//! Metrics in Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use super::{Metric, Point, Recorded, Value};

/// Writes all metrics.
pub(super) fn write(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for Metric { name, help, value } in metrics {
        let kind = value.kind();
        // Writing to a `String` cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        match value {
            Value::Counter(points) | Value::Gauge(points) => write_points(&mut text, name, points),
            Value::Histogram(recorded) => write_histogram(&mut text, name, recorded),
        }
    }
    text
}

fn write_points(text: &mut String, name: &str, points: &[Point]) {
    for Point { label, value } in points {
        let _ = match label {
            // No label's value has anything to escape: all are words of this program.
            Some((key, word)) => writeln!(text, "{name}{{{key}=\"{word}\"}} {value}"),
            None => writeln!(text, "{name} {value}"),
        };
    }
}

fn write_histogram(text: &mut String, name: &str, recorded: &Recorded) {
    let mut so_far = 0;
    for (bound, count) in recorded.unit.bounds().iter().zip(recorded.buckets) {
        so_far += count;
        let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {so_far}", recorded.unit.shown(*bound));
    }
    let (count, sum) = (recorded.count(), recorded.unit.shown(recorded.sum));
    let _ = write!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Unit;
    use super::super::kind::Histogram;
    use super::*;

    #[test]
    fn a_histogram_is_cumulated_and_ends_with_everything() {
        let histogram = Histogram::new(Unit::Seconds);
        histogram.record_time(Duration::from_micros(150));
        histogram.record_time(Duration::from_secs(60));
        let text = write(&[Metric {
            name: "waits_seconds",
            help: "Waits.".to_owned(),
            value: Value::Histogram(histogram.get()),
        }]);
        assert!(text.starts_with("# HELP waits_seconds Waits.\n# TYPE waits_seconds histogram\n"), "{text}");
        assert!(
            text.contains("waits_seconds_bucket{le=\"0.0001\"} 0\nwaits_seconds_bucket{le=\"0.00025\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("waits_seconds_bucket{le=\"10\"} 1\nwaits_seconds_bucket{le=\"+Inf\"} 2\n"),
            "{text}"
        );
        assert!(text.ends_with("waits_seconds_sum 60.00015\nwaits_seconds_count 2\n"), "{text}");
    }
}
