select r.key, r.content, r.image, r.address, r.fingerprint from likewise.read_watched(%(watch)s, %(keys)s::text[], %(contents)s) as r
