with taken as (
    update places set booking_id = gen_random_uuid()
     where id = (select nextval('next_place')) and booking_id is null
    returning id, booking_id
)
insert into sold_places (id, place_id, user_id)
select booking_id, id, gen_random_uuid() from taken;
