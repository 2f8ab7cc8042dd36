-- The names of models that workers have answered with.
select m.name from likewise.model as m
