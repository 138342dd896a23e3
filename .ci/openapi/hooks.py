"""What JSON Schema cannot say of a request: such requests are not sent as good ones."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    query = case.query or {}
    if "after" in query and "before" in query:
        return False
    return True
