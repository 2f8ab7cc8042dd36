-- What the shop's people ask, from psql or any other client.
\set ON_ERROR_STOP on

-- Words that nobody has typed before, and the shop's own conditions.
\echo 'A bird that swims, for less than 30:'
select p.name, p.price, round(s.similarity::numeric, 2) as similarity
from products_search('a bird that swims', 0.6) as s
join products as p using (id)
where p.price < 30 and p.in_stock
order by s.similarity desc, p.id
limit 5;

-- The same as a table, for a tool that knows no functions.
set shop.words = 'something sweet to eat';
\echo 'Something sweet to eat, for less than 25:'
select name, brand, price from smart_product_search where price < 25 order by similarity desc, id limit 5;

-- What fits best in each category, and how much of it there is.
\echo 'Its categories:'
select category, count(*) as products, round(max(similarity)::numeric, 2) as best, sum(stock) as pieces
from smart_product_search
group by category
order by best desc, category
limit 3;

-- Customers who looked at this also look at those: alike, cheaper, and in stock.
\echo 'Like the crow, and cheaper:'
select p.name, p.price
from likewise.similar_to('animals-birds-crow', 30, 'products_embeddings') as s
join products as p on p.id = s.content_id
join products as seen on seen.id = 'animals-birds-crow'
where p.id <> seen.id and p.in_stock and p.price < seen.price
group by p.id, p.name, p.price
order by max(s.similarity) desc, p.id
limit 3;
