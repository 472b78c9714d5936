// A careful application on node-nats-streaming: publishes numbered messages until each is
// acknowledged, or reads them through a durable. See ../README.md for the command line and the output.
'use strict'

const fs = require('fs')
const { createRequire } = require('module')
const { parseArgs } = require('util')

// The packages live outside the source tree; STANCHION_NODE_PACKAGES is the folder that holds them.
const packages = createRequire(`${process.env.STANCHION_NODE_PACKAGES}/`)
const stan = packages('node-nats-streaming')
const nats = packages('nats')

const text = { type: 'string' }
const { values: flags } = parseArgs({
  options: {
    url: text, ca: text, cert: text, key: text, cluster: text, client: text, channel: text,
    mode: text, first: { ...text, default: '0' }, count: text, durable: text
  }
})
const count = Number(flags.count)

// How many publishes may be under way: enough to fill the broker's batches.
const WINDOW = 256
let reconnects = 0

function report (fields) {
  fs.writeSync(1, JSON.stringify(fields) + '\n')
}

function fail (error) {
  report({ event: 'error', error: String(error) })
  process.exit(1)
}

const connection = nats.connect({
  url: flags.url,
  tls: {
    ca: [fs.readFileSync(flags.ca)],
    cert: fs.readFileSync(flags.cert),
    key: fs.readFileSync(flags.key)
  },
  encoding: 'binary',
  preserveBuffers: true,
  maxReconnectAttempts: -1,
  reconnectTimeWait: 100,
  waitOnFirstConnect: true
})
connection.on('reconnect', () => {
  reconnects += 1
  report({ event: 'reconnected' })
})
connection.on('error', (error) => {
  // While the broker restarts, single attempts fail; the library tries again.
  if (error.code !== 'CONN_ERR') fail(error)
})
connection.once('connect', start)

function start () {
  const client = stan.connect(flags.cluster, flags.client, { nc: connection, ackTimeout: 5000, connectTimeout: 10000 })
  client.on('error', fail)
  client.on('connection_lost', fail)
  client.on('connect', () => {
    report({ event: 'connected' })
    if (flags.mode === 'publish') publish(client)
    else if (flags.mode === 'subscribe') subscribe(client)
    else fail(`unknown mode ${flags.mode}: publish or subscribe`)
  })
}

function end (client, fields) {
  client.on('close', () => {
    report({ event: 'done', ...fields, reconnects })
    process.exit(0)
  })
  client.close()
}

function publish (client) {
  let next = Number(flags.first)
  const last = next + count
  let acked = 0

  function send (number) {
    client.publish(flags.channel, String(number), (error) => {
      if (error) {
        setTimeout(send, 50, number)
        return
      }
      acked += 1
      if (acked % 1000 === 0) report({ event: 'acked', count: acked })
      if (acked === count) end(client, { acked })
      else if (next < last) send(next++)
    })
  }

  while (next < last && next < Number(flags.first) + WINDOW) send(next++)
}

function subscribe (client) {
  const options = client.subscriptionOptions()
    .setDurableName(flags.durable)
    .setDeliverAllAvailable()
    .setManualAckMode(true)
    .setMaxInFlight(512)
    .setAckWait(5000)
  const subscription = client.subscribe(flags.channel, options)
  const seen = new Set()
  let received = 0
  let redelivered = 0
  let first = 0
  let last = 0
  subscription.on('error', fail)
  subscription.on('timeout', fail)
  subscription.on('message', (message) => {
    if (seen.size >= count) return // left unacknowledged: the durable hands it to whoever resumes
    received += 1
    if (message.isRedelivered()) redelivered += 1
    const sequence = message.getSequence()
    first = first === 0 ? sequence : Math.min(first, sequence)
    last = Math.max(last, sequence)
    message.ack()
    seen.add(message.getRawData().toString())
    if (seen.size % 1000 === 0) report({ event: 'received', count: seen.size })
    if (seen.size === count) {
      subscription.on('closed', () => end(client, { received, distinct: seen.size, redelivered, first, last }))
      subscription.close()
    }
  })
}
