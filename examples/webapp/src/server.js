// A guest book: GET / shows the visits and the entries, POST /entries adds one.
"use strict";
const http = require("http");
const os = require("os");
const { Pool } = require("pg");
const redis = require("redis");
const { checked } = require("./entries");
const { mail } = require("./mail");

const PORT = Number(process.env.PORT || 3000);
const RETRY_MS = 500;
const pool = new Pool({ connectionString: process.env.DATABASE_URL });
const counter = redis.createClient({ url: process.env.REDIS_URL });
pool.on("error", (error) => console.error(`database: ${error.message}`));
counter.on("error", (error) => console.error(`redis: ${error.message}`));

const TABLE = "CREATE TABLE IF NOT EXISTS entries (id serial PRIMARY KEY, text text NOT NULL)";

// "Started" does not mean "answers": the first connections may fail.
async function prepare() {
  for (;;) {
    try {
      await pool.query(TABLE);
      return;
    } catch (error) {
      console.error(`database: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function front() {
  const visits = await counter.incr("visits");
  const { rows } = await pool.query("SELECT text FROM entries ORDER BY id");
  const entries = rows.map((row) => row.text);
  return { host: os.hostname(), mode: process.env.NODE_ENV, visits, entries };
}

async function add(request) {
  let text = "";
  for await (const part of request) text += part;
  const entry = checked(text);
  await pool.query("INSERT INTO entries (text) VALUES ($1)", [entry]);
  if (process.env.MAIL_URL) await mail(process.env.MAIL_URL, "A new entry", entry);
  return { added: entry };
}

async function health() {
  await Promise.all([pool.query("SELECT 1"), counter.ping()]);
  return { status: "ok" };
}

const PAGES = { "GET /": front, "POST /entries": add, "GET /health": health };

const server = http.createServer(async (request, response) => {
  const page = PAGES[`${request.method} ${request.url}`];
  const [status, body] = await answer(page, request);
  if (process.env.DEBUG) console.log(`${request.method} ${request.url} ${status}`);
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
});

async function answer(page, request) {
  if (!page) return [404, { error: "no such page" }];
  try {
    return [200, await page(request)];
  } catch (error) {
    return [error instanceof RangeError ? 400 : 503, { error: error.message }];
  }
}

function stop() {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
}

process.on("SIGTERM", stop);
process.on("SIGINT", stop);

async function start() {
  await prepare();
  await counter.connect();
  server.listen(PORT, () => console.log(`listening on ${PORT}`));
}

start();
