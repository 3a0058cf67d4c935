"""Feature tables at prediction time: what is known of a key now, from the definitions of training.

============  ==================================================================
`views`       what the endpoint needs to know of a join; part of a bundle
`stores`      what an online store promises
`on_sqlite`   … kept in one file, for the replicas of one machine
`on_redis`    … kept in Redis, for replicas on several machines
`events`      from a feature table to the events that are kept of each key
`moments`     one key, one moment: the rule of the as-of join for one row
`sources`     … for the rows of a request, and for those of a file
`publishing`  feature tables into the store, whole or not at all
============  ==================================================================
"""
