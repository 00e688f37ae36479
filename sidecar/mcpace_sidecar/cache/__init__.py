"""What has been answered before: rules and keys, identical calls in flight, and where results are kept.

`call` looks up and keeps, the server's announcements and `admin` make old. It keeps nothing that may be one
caller's alone under what others ask, and no result that is too large; a store that fails is a miss.
"""
