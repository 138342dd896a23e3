"""Checks the script of bills against figures computed by hand, and docs/costs.md and docs/scale.md against the script."""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
loader = importlib.machinery.SourceFileLoader("bill", os.path.join(HERE, "bill"))
bill = importlib.util.module_from_spec(importlib.util.spec_from_loader("bill", loader))
sys.dont_write_bytecode = True
loader.exec_module(bill)


def document(name):
    """Returns the text of a document."""
    with open(os.path.join(HERE, "..", "..", "docs", name), encoding="utf-8") as file:
        return file.read()


def example():
    """Returns the bill of the example month in docs/costs.md."""
    with open(os.path.join(HERE, "example.json"), encoding="utf-8") as file:
        return bill.month(json.load(file))


class Bills(unittest.TestCase):
    """The script computes figures that were computed by hand."""

    def test_message_is_billed_per_connection(self):
        items = bill.channel_message(10).items
        self.assertEqual(items["gateway message"], 3 + 9)
        self.assertEqual(items["invocation"], 1)
        each = bill.UNITS["channel-message, each receiver"]["read"]
        self.assertEqual(items["read unit"], bill.UNITS["channel-message"]["read"] + 9 * each)

    def test_larger_content_costs_write_units(self):
        small, large = bill.channel_message(10), bill.channel_message(10, kibibytes=4)
        self.assertEqual(large.items["write unit"] - small.items["write unit"], 3)

    def test_offline_member_costs_read_only(self):
        here, away = bill.channel_message(100), bill.channel_message(100, connections=0)
        self.assertEqual(here.items["read unit"], away.items["read unit"])
        self.assertEqual(here.items["gateway message"] - away.items["gateway message"], 99)

    def test_prices_match_list(self):
        one = bill.Bill()
        one.add("gateway message", 2_000_000_000)
        one.add("connection minute", 1_000_000)
        one.add("GB-second", 1_000_000)
        priced = one.dollars()
        self.assertAlmostEqual(priced["gateway message"], 1000 + 800)
        self.assertAlmostEqual(priced["connection minute"], 0.25)
        self.assertAlmostEqual(priced["GB-second"], 13.3334)
        self.assertAlmostEqual(one.dollars("x86_64")["GB-second"], 16.6667)

    def test_silent_connection_costs_monthly_cent(self):
        month = bill.connection_hour(pings=0).total() * 24 * 30
        self.assertAlmostEqual(month, 0.0108)

    def test_month_sums_its_workload(self):
        nothing = bill.month({}).total()
        connected = bill.month({"connection-hours": 1000}).total()
        self.assertAlmostEqual(connected - nothing, 1000 * bill.connection_hour().total())
        messages = {"channels": [{"members": 10, "messages": 1000}]}
        said = bill.month(messages).total() - nothing
        storage = 1000 * 1024 * 1.3 / 1e9 * (0.25 + 0.20)
        self.assertAlmostEqual(said, 1000 * bill.channel_message(10).total() + storage)

    def test_example_runs(self):
        command = [os.path.join(HERE, "bill"), os.path.join(HERE, "example.json")]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.assertIn(f"{example().total():,.2f} $", printed)


class Documents(unittest.TestCase):
    """The documents quote what the script computes."""

    def assert_rows(self, text, rows):
        """Asserts that each row is a line of the text."""
        lines = text.splitlines()
        for name, dollars in rows:
            self.assertIn(f"| {name} | {dollars} |", lines)

    def test_costs_document_has_tables(self):
        text = document("costs.md")
        for table in bill.tables().split("\n\n"):
            self.assertIn(table, text, "run infra/costs/bill --table")

    def test_costs_document_has_example(self):
        month = example()
        rows = [(what, f"{dollars:,.2f}") for what, dollars in month.dollars().items()]
        self.assert_rows(document("costs.md"), rows + [("a month", f"{month.total():,.2f}")])

    def test_scale_document_has_totals(self):
        text = document("scale.md")
        quoted = re.findall(r"`infra/costs/bill`[^`]*`(\{[^`]*\})`", text)
        self.assertEqual(len(quoted), 2)
        for workload in quoted:
            total = bill.month(json.loads(workload)).total()
            self.assertRegex(text, rf"(?<![\d,.]){total:,.0f}(?![\d,]|\.\d)", workload)

    def test_scale_document_has_month(self):
        text = document("scale.md")
        (workload,) = re.findall(r"`(\{\"connects\"[^`]*\})`", text)
        workload = json.loads(workload)
        month = bill.month(workload)
        dollars = month.dollars()
        talk = {"direct-messages": 100_000_000, "channels": [{"members": 10, "messages": 50_000_000}]}
        more = bill.month({**workload, **talk}).total() - month.total()
        self.assert_rows(
            text,
            [
                ("connection minutes", f"{dollars['connection minute']:,.0f}"),
                ("gateway messages: pings and `ack`s", f"{dollars['gateway message']:,.0f}"),
                ("DynamoDB", f"{dollars['write unit'] + dollars['read unit']:,.0f}"),
                ("Lambda", f"{dollars['invocation'] + dollars['GB-second']:,.0f}"),
                ("logs", f"{dollars['GB of logs']:,.0f}"),
                ("**together**", f"**{month.total():,.0f}**"),
                ("100 million direct messages and 50 million to channels of ten", f"{more:,.0f} more"),
            ],
        )

    def test_scale_document_has_units(self):
        text = document("scale.md")
        connect, end = bill.UNITS["connect"]["write"], bill.UNITS["disconnect"]["write"]
        for said in (
            f"A connect is {connect} write units",
            f"Connecting writes the same {connect} units",
            f"| **here**: connections with the subscriber | {connect} writes |",
            f"| {connect} + 2 × channels writes",
            f"| write units: connects and ends, {connect + end} each |",
        ):
            self.assertIn(said, text)


if __name__ == "__main__":
    unittest.main()
