// Orders: POST /orders stores one and puts it into a queue; who takes it from there confirms it.
"use strict";
const amqp = require("amqplib");
const { Pool } = require("pg");
const { eventually, serve } = require("./web");

const QUEUE = "orders";
const TABLE =
  "CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text, state text DEFAULT 'new')";
const pool = new Pool({ connectionString: process.env.DATABASE_URL });
pool.on("error", (error) => console.error(`database: ${error.message}`));
let channel;

async function connect() {
  const connection = await amqp.connect(process.env.RABBITMQ_URL);
  connection.on("error", (error) => console.error(`queue: ${error.message}`));
  connection.on("close", () => eventually("queue", connect));
  channel = await connection.createChannel();
  await channel.assertQueue(QUEUE, { durable: true });
  await channel.consume(QUEUE, confirm);
}

async function confirm(message) {
  const { id } = JSON.parse(message.content);
  await eventually("database", () =>
    pool.query("UPDATE orders SET state = 'confirmed' WHERE id = $1", [id]));
  channel.ack(message);
}

async function add({ item }) {
  if (!item) return [400, { error: "item is missing" }];
  const { rows } = await pool.query("INSERT INTO orders (item) VALUES ($1) RETURNING id", [item]);
  const content = Buffer.from(JSON.stringify({ id: rows[0].id }));
  channel.sendToQueue(QUEUE, content, { persistent: true });
  return [201, { id: rows[0].id, item }];
}

async function list() {
  return (await pool.query("SELECT id, item, state FROM orders ORDER BY id")).rows;
}

eventually("database", () => pool.query(TABLE))
  .then(() => eventually("queue", connect))
  .then(() => serve({ "POST /orders": add, "GET /orders": list }));
