//! Comma-separated values.

/// Formats rows below a header; cells with commas, quotes or line breaks are quoted.
pub(crate) fn csv<const N: usize>(head: &[&str; N], mut rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = ::csv::Writer::from_writer(Vec::new());
    let written = table.write_record(head).and_then(|()| rows.try_for_each(|row| table.write_record(&row)));
    debug_assert!(written.is_ok(), "memory takes every row, and all have the same length");
    String::from_utf8(table.into_inner().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_that_need_it_are_quoted() {
        let rows = [["a,b".to_string(), "say \"x\"".to_string()], ["1".to_string(), String::new()]];
        assert_eq!(
            crate::util::csv::csv(&["x", "y"], rows.into_iter()),
            "x,y\n\"a,b\",\"say \"\"x\"\"\"\n1,\n"
        );
    }
}
