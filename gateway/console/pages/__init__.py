"""The pages of the console, one module a page; :data:`gateway.console.pages.table.PAGES` lists them.

Refuses to decide who may do what: the skeleton knows who is logged in, the hold store knows who decides what.
"""
