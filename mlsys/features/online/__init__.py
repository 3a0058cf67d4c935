"""Feature tables at prediction time: what is known of a key now, from the definitions of training.

==============  ================================================================================
`views`         feature views: the definition of a join for the endpoint; part of a bundle
`online_store`  the interface of a store of events by view and key
`sqlite_store`  a store in one file, for the replicas of one machine
`redis_store`   a store in Redis, for replicas on several machines
`events`        a feature table as the events of each key, and back
`event_cache`   the events of the keys that were asked for last, decoded
`publishing`    feature tables into the store, whole or not at all
`lookup`        point look-ups for the rows of a request, and for those of a file
==============  ================================================================================
"""
