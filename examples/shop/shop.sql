-- A shop: products with a category, a brand, a price, a stock and a picture, found by what people say they want.
--     psql -v data=FOLDER -f examples/shop/shop.sql
-- FOLDER is that of the package likewise_demo_data, with products.csv and images/. A worker that may read the pictures does the rest:
--     likewise worker --image-root FOLDER/images

\set ON_ERROR_STOP on

create table categories (
    id int generated always as identity primary key,
    path text not null unique
);

create table brands (
    id int generated always as identity primary key,
    name text not null unique
);

create table products (
    id text primary key,
    name text not null,
    category_id int not null references categories on delete cascade,
    brand_id int not null references brands,
    price numeric(10, 2) not null check (price >= 0),
    stock int not null check (stock >= 0),
    in_stock boolean generated always as (stock > 0) stored,
    -- The path of a file, below the folder that the worker was given.
    picture text
);
create index on products (category_id);
create index on products (brand_id);

create temporary table delivered (id text, name text, category text, brand text, price numeric, stock int);
\cd :data
\copy delivered from 'products.csv' with (format csv, header)

insert into categories (path) select distinct category from delivered order by category;
insert into brands (name) select distinct brand from delivered order by brand;
insert into products (id, name, category_id, brand_id, price, stock, picture)
select d.id, d.name, c.id, b.id, d.price, d.stock, :'data' || '/images/' || d.id || '.jpg'
from delivered as d
join categories as c on c.path = d.category
join brands as b on b.name = d.brand;

-- Names and pictures are embedded from now on, and products_search finds rows by either.
select likewise.watch('products', content => 'name', image => 'picture', model => 'mini');

-- For clients that can only read a table: what the session has asked for, by set shop.words = '…'.
create view smart_product_search as
select
    p.id,
    p.name,
    b.name as brand,
    c.path as category,
    p.price,
    p.stock,
    s.similarity
from products_search(current_setting('shop.words'), 0.5, 200) as s
join products as p using (id)
join brands as b on b.id = p.brand_id
join categories as c on c.id = p.category_id
where p.in_stock;
