// A small application on nats.js: one scenario of core NATS a run. See ../README.md for the command
// line, the scenarios and the output.
'use strict'

const fs = require('fs')
const { createRequire } = require('module')
const { parseArgs } = require('util')

// The packages live outside the source tree; STANCHION_NODE_PACKAGES is the folder that holds them.
const packages = createRequire(`${process.env.STANCHION_NODE_PACKAGES}/`)
// Under another name than the older library that node-nats-streaming asks for.
const nats = packages('nats-core')

const text = { type: 'string' }
const { values: flags } = parseArgs({
  options: {
    scenario: text, url: text, ca: text, cert: text, key: text, user: text, password: text, token: text, seed: text,
    prefix: text
  }
})

// For an answer, on a busy machine.
const PATIENCE_MS = 20000
// Messages that are under way when a connection is drained.
const DRAINED = 200

let disconnects = 0
const complaints = waitingList()
const reconnected = waitingList()

function report (event, fields = {}) {
  fs.writeSync(1, JSON.stringify({ event, ...fields }) + '\n')
}

function fail (error) {
  report('error', { error: String(error) })
  process.exit(1)
}

function named (subject) {
  return `${flags.prefix}.${subject}`
}

// What comes later, one after the other.
function waitingList () {
  const come = []
  const waiting = []
  return {
    add (item) { waiting.length ? waiting.shift()(item) : come.push(item) },
    next () { return come.length ? Promise.resolve(come.shift()) : new Promise((resolve) => waiting.push(resolve)) }
  }
}

async function connect () {
  const options = { servers: flags.url, maxReconnectAttempts: -1, reconnectTimeWait: 100, noRandomize: true }
  if (flags.ca) options.tls = { caFile: flags.ca, certFile: flags.cert, keyFile: flags.key }
  if (flags.user) Object.assign(options, { user: flags.user, pass: flags.password })
  if (flags.token) options.token = flags.token
  if (flags.seed) options.authenticator = nats.nkeyAuthenticator(fs.readFileSync(flags.seed))
  const connection = await nats.connect(options)
  watch(connection).catch(fail)
  return connection
}

async function watch (connection) {
  for await (const status of connection.status()) {
    if (status.type === 'disconnect') disconnects += 1
    else if (status.type === 'update' && status.data.added?.length) report('discovered')
    else if (status.type === 'ldm') report('lame_duck')
    else if (status.type === 'error') complaints.add(`${status.data}: ${JSON.stringify(status.permissionContext)}`)
    else if (status.type === 'reconnect') {
      report('reconnected')
      reconnected.add(status.data)
    }
  }
}

// What comes on a subject can be asked for one by one.
function subscribe (connection, subject) {
  const messages = waitingList()
  connection.subscribe(named(subject), { callback: (error, message) => error ? fail(error) : messages.add(message) })
  return messages
}

// Publishes to its own subscription.
async function roundTrip (connection, subject) {
  const subscription = subscribe(connection, subject)
  connection.publish(named(subject), 'there and back')
  await subscription.next()
}

async function login (connection) {
  await roundTrip(connection, 'login')
}

async function messages (connection) {
  const echo = subscribe(connection, 'echo')
  const headers = nats.headers()
  headers.append('Trace', 'a')
  headers.append('Trace', 'b: c')
  headers.append('Empty', '')
  connection.publish(named('echo'), nats.Empty, { headers })
  const headed = await echo.next()

  const large = Buffer.from('0123456789abcdef'.repeat(1 << 16))
  connection.publish(named('echo'), large)
  const echoed = await echo.next()
  let tooLarge = ''
  try {
    connection.publish(named('echo'), Buffer.concat([large, Buffer.from('!')]))
  } catch (error) {
    tooLarge = error.code
  }

  const began = Date.now()
  let nobody = ''
  await connection.request(named('nobody'), nats.Empty, { timeout: PATIENCE_MS }).catch((error) => { nobody = error.code })
  const waited = Date.now() - began

  connection.subscribe(named('service'), { callback: (_, message) => message.respond(`hello ${message.string()}`) })
  const answer = await connection.request(named('service'), 'node', { timeout: PATIENCE_MS })
  return {
    trace: headed.headers.values('Trace'),
    empty: headed.headers.has('Empty'),
    body: headed.data.length,
    large: large.equals(echoed.data),
    too_large: tooLarge === nats.ErrorCode.MaxPayloadExceeded,
    no_responders: nobody === nats.ErrorCode.NoResponders,
    waited_ms: waited,
    answer: answer.string()
  }
}

async function survive (connection) {
  const ticks = subscribe(connection, 'ticks')
  connection.publish(named('ticks'), 'before')
  const before = await ticks.next()
  report('connected')
  await reconnected.next()
  connection.publish(named('ticks'), 'after')
  const after = await ticks.next()
  return { ticks: [before.string(), after.string()], server: connection.getServer() }
}

async function drain (worker) {
  let handled = 0
  // Not an iterator: the library closes the connection before one of those has come to its end.
  worker.subscribe(named('work'), {
    callback: (_, message) => {
      handled += 1
      message.respond()
    }
  })
  await worker.flush()

  const asker = await connect()
  const answers = subscribe(asker, 'answers')
  for (let n = 0; n < DRAINED; n += 1) asker.publish(named('work'), nats.Empty, { reply: named('answers') })
  await asker.flush()
  await worker.drain()
  let answered = 0
  for (let n = 0; n < DRAINED; n += 1) {
    await answers.next()
    answered += 1
  }
  await asker.close()
  return { handled, answered }
}

async function queue (connection) {
  let received = 0
  connection.subscribe(named('jobs'), { queue: 'workers', callback: () => { received += 1 } })
  const stop = subscribe(connection, 'stop')
  await connection.flush()
  report('subscribed')
  await stop.next()
  await connection.drain()
  return { received }
}

async function permissions (connection) {
  connection.subscribe(named('hidden'), { callback: () => {} })
  const first = await complaints.next()
  connection.publish(named('secret'))
  const second = await complaints.next()
  await roundTrip(connection, 'open')
  return { complaints: [first, second], disconnects }
}

const scenarios = { login, messages, survive, drain, queue, permissions }

async function main () {
  const scenario = scenarios[flags.scenario]
  if (!scenario) throw new Error(`unknown scenario ${flags.scenario}`)
  const connection = await connect()
  const result = await scenario(connection)
  await connection.close()
  report('done', result)
  process.exit(0)
}

main().catch(fail)
