"""Reports: what a run found, as JSON, JUnit XML and a page to look at; checked, and compared.

`document` writes and reads them, in the shape that `schema` states; `verify` finds inconsistencies; `compare`
shows two side by side. `levels` alone says what a level means.
"""
