// A small application on node-nats-streaming that uses every option of the library: one scenario of
// streaming a run. See ../README.md for the command line, the scenarios and the output.
'use strict'

const fs = require('fs')
const { once } = require('events')
const { createRequire } = require('module')
const { setTimeout: pause } = require('timers/promises')
const { parseArgs } = require('util')

// The packages live outside the source tree; STANCHION_NODE_PACKAGES is the folder that holds them.
const packages = createRequire(`${process.env.STANCHION_NODE_PACKAGES}/`)
const stan = packages('node-nats-streaming')
const nats = packages('nats')

const text = { type: 'string' }
const { values: flags } = parseArgs({
  options: { scenario: text, url: text, ca: text, cert: text, key: text, cluster: text, prefix: text }
})
const channel = `${flags.prefix}.x`

// For whatever must come, on a busy machine.
const PATIENCE = 60000

function report (event, fields) {
  fs.writeSync(1, JSON.stringify({ event, ...fields }) + '\n')
}

function fail (error) {
  report('error', { error: String(error) })
  process.exit(1)
}

// What `promise` gives, or a failure when it takes too long.
function within (what, promise) {
  return Promise.race([promise, pause(PATIENCE, null, { ref: false }).then(() => fail(`no ${what}`))])
}

function tls () {
  return flags.ca && {
    ca: [fs.readFileSync(flags.ca)], cert: fs.readFileSync(flags.cert), key: fs.readFileSync(flags.key)
  }
}

// Over TLS the application makes the NATS connection itself; otherwise the library does, by URL.
function connectionOptions () {
  const options = { url: flags.url, name: flags.prefix, maxReconnectAttempts: -1 }
  if (!flags.ca) return options
  const nc = nats.connect({ ...options, tls: tls(), encoding: 'binary', preserveBuffers: true })
  nc.on('error', fail)
  return { nc }
}

// Connects with every option that there is; rejects with what the library says.
function tryToConnect (cluster, client, more) {
  const connection = stan.connect(cluster, client, {
    ...connectionOptions(),
    ackTimeout: PATIENCE,
    connectTimeout: PATIENCE,
    discoverPrefix: '_STAN.discover',
    maxPubAcksInflight: 8,
    stanEncoding: 'utf8',
    stanMaxPingOut: 10,
    stanPingInterval: 2000,
    ...more
  })
  return new Promise((resolve, reject) => {
    connection.once('connect', () => {
      connection.off('error', reject)
      connection.on('error', fail)
      if (!more || !more.stanMaxPingOut) connection.on('connection_lost', fail)
      resolve(connection)
    })
    connection.on('error', reject)
  })
}

const connect = (more) => tryToConnect(flags.cluster, flags.prefix, more)

async function close (client) {
  const closed = once(client, 'close')
  client.close()
  const [error] = await within('end', closed)
  if (error) fail(error)
}

async function refusal (what, promise) {
  try {
    await promise
  } catch (error) {
    return String(error.message || error)
  }
  return fail(`${what} was not refused`)
}

// The guid, when it is stored.
function publish (client, to, data) {
  return within('acknowledgement', new Promise((resolve, reject) => {
    client.publish(to, data, (error, guid) => error ? reject(error) : resolve(guid))
  }))
}

// Publishes numbers as text; number n has sequence n.
async function numbers (client, first, last) {
  for (let n = first; n <= last; n++) await publish(client, channel, String(n))
}

// A subscription whose messages are taken one by one; `group` may be left out.
class Collected {
  static async start (client, options, group) {
    const self = new Collected()
    self.waiting = []
    self.wake = () => {}
    self.subscription = group ? client.subscribe(channel, group, options) : client.subscribe(channel, options)
    self.subscription.on('message', (message) => {
      self.waiting.push(message)
      self.wake()
    })
    self.subscription.on('timeout', fail)
    await within('subscription', new Promise((resolve, reject) => {
      self.subscription.once('ready', resolve)
      self.subscription.on('error', reject)
    }))
    self.subscription.removeAllListeners('error')
    self.subscription.on('error', fail)
    return self
  }

  async next () {
    while (this.waiting.length === 0) {
      await within('message', new Promise((resolve) => { this.wake = resolve }))
    }
    return this.waiting.shift()
  }

  // Takes and acknowledges messages up to this sequence; their sequences.
  async ackUpTo (last) {
    const sequences = []
    do {
      const message = await this.next()
      message.ack()
      sequences.push(message.getSequence())
    } while (sequences.at(-1) !== last)
    return sequences
  }

  async end (how, event) {
    const ended = once(this.subscription, event)
    this.subscription[how]()
    await within(event, ended)
  }

  unsubscribe () { return this.end('unsubscribe', 'unsubscribed') }
  close () { return this.end('close', 'closed') }
}

async function connectAndClose () {
  const client = await connect()
  const duplicate = await refusal('a second client of the same ID', tryToConnect(flags.cluster, flags.prefix))
  const invalid = await refusal('an invalid client ID', tryToConnect(flags.cluster, 'no.dots'))
  const elsewhere = await refusal('another cluster',
    tryToConnect('no-such-cluster', flags.prefix, { connectTimeout: 300 }))
  await publish(client, channel, '')
  await close(client)
  const closed = await refusal('publishing after the end', publish(client, channel, ''))
  // The ID is free again.
  await close(await connect())
  return { duplicate, invalid, elsewhere, closed }
}

async function publishing () {
  const client = await connect()
  for (let n = 0; n < 10; n++) await publish(client, channel, 'waits')
  // The library refuses what is beyond its window, so that the application keeps it.
  const under = new Set()
  let acked = 0
  for (let n = 0; n < 200; n++) {
    if (under.size === 8) await within('acknowledgement', Promise.race(under))
    const one = new Promise((resolve) => {
      const guid = client.publish(channel, Buffer.from('does not wait'), (error, back) => {
        if (error || back !== guid) fail(error || `${back} instead of ${guid}`)
        acked++
        under.delete(one)
        resolve()
      })
    })
    under.add(one)
  }
  await within('acknowledgement', Promise.all(under))
  const refused = await refusal('a wildcard', publish(client, `${flags.prefix}.*`, ''))
  const last = await Collected.start(client, client.subscriptionOptions().setStartWithLastReceived())
  const sequence = (await last.next()).getSequence()
  await close(client)
  return { acked, refused, last: sequence }
}

async function positions () {
  const client = await connect()
  await numbers(client, 1, 10)
  await pause(50)
  const middle = new Date()
  // The library tells how long ago that was; what the request needs shifts it.
  await pause(5000)
  await numbers(client, 11, 20)
  const options = () => client.subscriptionOptions()
  const subscriptions = {
    new: await Collected.start(client),
    first: await Collected.start(client, options().setDeliverAllAvailable()),
    raw: await Collected.start(client, options().setStartAt(stan.StartPosition.FIRST)),
    sequence: await Collected.start(client, options().setStartAtSequence(11)),
    last: await Collected.start(client, options().setStartWithLastReceived()),
    time: await Collected.start(client, options().setStartTime(middle)),
    delta: await Collected.start(client, options().setStartAtTimeDelta(Date.now() - middle))
  }
  await numbers(client, 21, 21)
  const found = {}
  for (const [name, subscription] of Object.entries(subscriptions)) {
    const sequences = []
    do {
      const message = await subscription.next()
      expectWellFormed(message)
      sequences.push(message.getSequence())
    } while (sequences.at(-1) !== 21)
    found[name] = [sequences[0], sequences.length]
  }
  await close(client)
  return found
}

function expectWellFormed (message) {
  const age = Date.now() - message.getTimestamp()
  const raw = Number(message.getTimestampRaw())
  if (message.getData() !== String(message.getSequence()) || message.getSubject() !== channel ||
    message.getRawData().length !== message.getData().length || message.isRedelivered() ||
    message.getRedeliveryCount() !== 0 || message.getCrc32() !== 0 || Math.abs(age) > 60000 || raw === 0) {
    fail(`message ${message.getSequence()} of ${age} ms ago: ${message.getData()}`)
  }
}

async function durable () {
  let client = await connect()
  await numbers(client, 1, 10)
  // With one message in flight the next one shows that the last acknowledgement was seen.
  const start = () => Collected.start(client, client.subscriptionOptions().setDurableName('d')
    .setDeliverAllAvailable().setManualAckMode(true).setMaxInFlight(1).setAckWait(20000))
  let subscription = await start()
  await subscription.ackUpTo(4)
  await subscription.next()
  await subscription.close()

  subscription = await start()
  await numbers(client, 11, 11)
  const first = await subscription.next()
  first.ack()
  const resumed = [first.getSequence(), ...await subscription.ackUpTo(10)]
  const duplicate = await refusal('a second subscription to a durable', start())
  await subscription.next()
  await close(client)

  client = await connect()
  subscription = await start()
  const afterClose = (await subscription.next()).getSequence()
  await subscription.unsubscribe()
  subscription = await start()
  const afterUnsubscribe = (await subscription.next()).getSequence()
  await subscription.unsubscribe()
  await close(client)
  return {
    resumed, redelivered: first.isRedelivered(), duplicate, after_close: afterClose, after_unsubscribe: afterUnsubscribe
  }
}

async function queue () {
  const client = await connect()
  const options = () => client.subscriptionOptions().setMaxInFlight(5)
  const workers = [await Collected.start(client, options(), 'workers'), await Collected.start(client, options(), 'workers')]
  await numbers(client, 1, 100)
  const deadline = Date.now() + PATIENCE
  while (workers[0].waiting.length + workers[1].waiting.length < 100 && Date.now() < deadline) await pause(10)
  const jobs = workers.flatMap((worker) => worker.waiting.map((message) => message.getSequence()))

  const member = (durableName) => Collected.start(client, client.subscriptionOptions().setDurableName(durableName)
    .setDeliverAllAvailable().setManualAckMode(true).setMaxInFlight(1), 'lasting')
  const first = await member('d')
  await first.ackUpTo(4)
  await first.next()
  await first.close()
  const second = await member('d')
  const resumed = (await second.next()).getSequence()
  await second.unsubscribe()
  const afterUnsubscribe = (await (await member('d')).next()).getSequence()
  const refused = await refusal('a durable name with a colon', member('d:e'))
  await close(client)
  return {
    shared: new Set(jobs).size,
    both: workers.every((worker) => worker.waiting.length > 0),
    resumed,
    after_unsubscribe: afterUnsubscribe,
    refused
  }
}

async function redelivery () {
  const client = await connect()
  await numbers(client, 1, 6)
  const options = () => client.subscriptionOptions().setDeliverAllAvailable()
  // Acknowledged by the library: with one message in flight nothing would come after the first otherwise.
  const automatic = await Collected.start(client, options().setMaxInFlight(1))
  const subscription = await Collected.start(client,
    options().setAckWait(1000).setMaxInFlight(3).setManualAckMode(true))
  const first = []
  const again = []
  const then = []
  const auto = []
  let redelivered = true
  while (first.length < 3) first.push((await subscription.next()).getSequence())
  // On a slow machine one may come a third time before another comes a second time.
  while (again.length < 3) {
    const message = await subscription.next()
    message.ack()
    if (again.includes(message.getSequence())) continue
    redelivered = redelivered && message.isRedelivered() && message.getRedeliveryCount() === 1
    again.push(message.getSequence())
  }
  while (then.length < 3) {
    const message = await subscription.next()
    message.ack()
    if (!message.isRedelivered()) then.push(message.getSequence())
  }
  while (auto.length < 6) auto.push((await automatic.next()).getSequence())
  await close(client)
  return { first, again: again.sort(), redelivered, then, auto }
}

async function leave () {
  const client = await connect()
  const [first, second, third] = [
    await Collected.start(client), await Collected.start(client), await Collected.start(client)
  ]
  await numbers(client, 1, 1)
  for (const each of [first, second, third]) await each.next()
  await first.unsubscribe()
  await second.close()
  if (!first.subscription.isClosed()) fail('a subscription that has ended is open')
  first.subscription.removeAllListeners('error')
  const told = once(first.subscription, 'error')
  first.subscription.unsubscribe()
  const [twice] = await told
  await numbers(client, 2, 2)
  await third.next()
  const after = first.waiting.length + second.waiting.length
  const wildcard = client.subscribe(`${channel}.*`)
  const [refused] = await within('refusal', once(wildcard, 'error'))
  await close(client)
  return { after, twice: twice.message, refused: refused.message }
}

// Freezes of the server are the test's: after `ready` nothing is answered any more.
async function lost () {
  const client = await connect({ stanPingInterval: 1000, stanMaxPingOut: 3, ackTimeout: 500 })
  const reason = once(client, 'connection_lost')
  report('ready')
  const deadline = Date.now() + PATIENCE
  for (;;) {
    if (Date.now() > deadline) fail('everything is acknowledged')
    try {
      await publish(client, channel, '')
    } catch (error) {
      const [lost] = await within('connection_lost', reason)
      return { timeout: error.message, lost: lost.message }
    }
    await pause(20)
  }
}

const scenarios = { connect: connectAndClose, publish: publishing, positions, durable, queue, redelivery, leave, lost }

process.on('unhandledRejection', fail)
scenarios[flags.scenario]().then((found) => {
  report('done', found)
  process.exit(0)
}, fail)
