// ClickHouse's own JavaScript client against the embedded engine: creates, inserts, queries, streams.
import assert from 'node:assert/strict'
import { createClient } from '@clickhouse/client'

const client = createClient({
  url: process.argv[2],
  compression: { request: process.argv[3] === 'compressed', response: process.argv[3] === 'compressed' },
})

assert.equal((await client.ping()).success, true)
const table = `rows_${process.argv[3]}`
await client.command({ query: `CREATE TABLE ${table} (id UInt64, name String) ENGINE = MergeTree ORDER BY id` })
await client.insert({
  table,
  format: 'JSONEachRow',
  values: [{ id: 1, name: "it's" }, { id: 2, name: 'two\nlines' }],
})
const inserted = await client.query({
  query: `SELECT name FROM ${table} WHERE id = {id:UInt64}`,
  query_params: { id: 2 },
  format: 'JSONEachRow',
})
assert.deepEqual(await inserted.json(), [{ name: 'two\nlines' }])

const whole = await client.query({ query: `SELECT count() AS n FROM ${table}`, format: 'JSON' })
assert.equal(Number((await whole.json()).data[0].n), 2)

const stream = await client.query({ query: 'SELECT number FROM numbers(300000)', format: 'JSONEachRow' })
let rows = 0
for await (const block of stream.stream()) rows += block.length
assert.equal(rows, 300000)

await assert.rejects(client.query({ query: 'SELECT no_such_column' }), (error) => error.code === '47')
await client.close()
console.log('done')
