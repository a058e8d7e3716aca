"""One self-contained page: pieces of HTML and SVG, and the report of runs that is made of them.

    page = Page("digits", "What was found.")
    page.add(section("found", "Accuracy", table("accuracy", "Test accuracy.", columns, rows)))
    write_atomically(path, page.text().encode())

A page asks no network for anything, and its titles, names and notes are users' text, which is escaped.
"""

from vitgraft.report.page.document import Page as Page
from vitgraft.report.page.document import section as section
from vitgraft.report.page.images import figure as figure
from vitgraft.report.page.images import picture as picture
from vitgraft.report.page.markup import Html as Html
from vitgraft.report.page.markup import h as h
from vitgraft.report.page.markup import together as together
from vitgraft.report.page.tables import Cell as Cell
from vitgraft.report.page.tables import Column as Column
from vitgraft.report.page.tables import Row as Row
from vitgraft.report.page.tables import facts as facts
from vitgraft.report.page.tables import table as table
