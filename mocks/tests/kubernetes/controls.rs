//! What needs the mock's own controls: users, trouble on purpose, the record of requests, custom resources.
