select count(*) as depth from likewise.queue
