"""A report as text, JSON, JUnit, SARIF or GitHub annotations: one module a format, all of them pure."""
