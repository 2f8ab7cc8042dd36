-- The models of this database: of its collections, and the one that embed() uses when none is named. And what names stand for so far.
select r.spec ->> 'embedder' as name from likewise.registry as r where r.spec ->> 'embedder' is not null
union
select likewise.default_model()
