"""The script of bills: by hand what it computes, and that docs/costs.md has its tables."""

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
loader = importlib.machinery.SourceFileLoader("bill", os.path.join(HERE, "bill"))
bill = importlib.util.module_from_spec(importlib.util.spec_from_loader("bill", loader))
sys.dont_write_bytecode = True
loader.exec_module(bill)


class Bills(unittest.TestCase):
    """Each figure was computed by hand."""

    def test_a_message_is_billed_once_for_each_who_sends_or_receives_it(self):
        items = bill.channel_message(10).items
        self.assertEqual(items["gateway message"], 3 + 9)
        self.assertEqual(items["invocation"], 1)
        each = bill.UNITS["channel-message, each receiver"]["read"]
        self.assertEqual(items["read unit"], bill.UNITS["channel-message"]["read"] + 9 * each)

    def test_larger_content_takes_more_write_units(self):
        small, large = bill.channel_message(10), bill.channel_message(10, kibibytes=4)
        self.assertEqual(large.items["write unit"] - small.items["write unit"], 3)

    def test_who_is_a_member_and_not_here_costs_a_read_and_no_post(self):
        here, away = bill.channel_message(100), bill.channel_message(100, connections=0)
        self.assertEqual(here.items["read unit"], away.items["read unit"])
        self.assertEqual(here.items["gateway message"] - away.items["gateway message"], 99)

    def test_prices_are_the_list_s(self):
        one = bill.Bill()
        one.add("gateway message", 2_000_000_000)
        one.add("connection minute", 1_000_000)
        one.add("GB-second", 1_000_000)
        priced = one.dollars()
        self.assertAlmostEqual(priced["gateway message"], 1000 + 800)
        self.assertAlmostEqual(priced["connection minute"], 0.25)
        self.assertAlmostEqual(priced["GB-second"], 13.3334)
        self.assertAlmostEqual(one.dollars("x86_64")["GB-second"], 16.6667)

    def test_a_silent_connection_costs_a_cent_a_month(self):
        month = bill.connection_hour(pings=0).total() * 24 * 30
        self.assertAlmostEqual(month, 0.0108)

    def test_a_month_is_the_sum_of_what_happens_in_it(self):
        nothing = bill.month({}).total()
        connected = bill.month({"connection-hours": 1000}).total()
        self.assertAlmostEqual(connected - nothing, 1000 * bill.connection_hour().total())
        messages = {"channels": [{"members": 10, "messages": 1000}]}
        said = bill.month(messages).total() - nothing
        storage = 1000 * 1024 * 1.3 / 1e9 * (0.25 + 0.20)
        self.assertAlmostEqual(said, 1000 * bill.channel_message(10).total() + storage)

    def test_the_example_runs(self):
        command = [os.path.join(HERE, "bill"), os.path.join(HERE, "example.json")]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        with open(command[1], encoding="utf-8") as file:
            total = bill.month(json.load(file)).total()
        self.assertIn(f"{total:,.2f} $", printed)

    def test_the_document_has_the_script_s_tables(self):
        with open(os.path.join(HERE, "..", "..", "docs", "costs.md"), encoding="utf-8") as file:
            document = file.read()
        for table in bill.tables().split("\n\n"):
            self.assertIn(table, document, "run infra/costs/bill --table")


if __name__ == "__main__":
    unittest.main()
