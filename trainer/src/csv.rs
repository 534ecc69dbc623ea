//! Tables as comma-separated values.

/// Rows under a head; cells with commas, quotes or line breaks are quoted.
pub(crate) fn csv<const N: usize>(head: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let cell = |text: &str| {
        let quoted = text.contains([',', '"', '\n']);
        if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
    };
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let mut out = line(head.iter().map(|text| cell(text)).collect());
    rows.for_each(|row| out += &line(row.iter().map(|text| cell(text)).collect()));
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_that_need_it_are_quoted() {
        let rows = [["a,b".to_string(), "say \"x\"".to_string()], ["1".to_string(), String::new()]];
        assert_eq!(super::csv(&["x", "y"], rows.into_iter()), "x,y\n\"a,b\",\"say \"\"x\"\"\"\n1,\n");
    }
}
