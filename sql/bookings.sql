-- name: book
-- Many requests, one transaction, one round trip.
select * from book($1::bigint, $2::json);

-- name: get_booking
-- Another's booking is as absent as one that never was.
select * from booking_details where id = $1::uuid and user_id = $2::uuid;

-- name: get_committed
-- Which of a batch's bookings exist after all.
select * from booking_details where id = any ($1::uuid[]);

-- name: list_bookings
-- Newest first; a page starts after the cursor's booking.
select *
  from booking_details
 where user_id = $1::uuid
   and ($2::text is null or status = $2::text)
   and ($3::bigint is null or event_id = $3::bigint)
   and ($4::timestamptz is null or (created_at, id) < ($4::timestamptz, $5::uuid))
 order by created_at desc, id desc
 limit $6::int;

-- name: cancel_booking
-- Frees the seats in the same transaction.
select cancel_booking($1::uuid, $2::uuid) as refusal;
